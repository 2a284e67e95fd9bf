"""What `kd latency` found: the table, the JSON and the budget."""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from kd.console import make_table, print_line, stdout
from kd.data.images.decode import size_text
from kd.deploy.latency.loading import MODULES, RUNTIMES
from kd.deploy.latency.output import LatencyOutput
from kd.deploy.latency.subjects import Subject
from kd.deploy.timing import WARM_UP, Timing, percentile
from kd.errors import StorageError
from kd.machine import hardware
from kd.runs import Measured, write_latency
from kd.runs.latency import LATENCY
from kd.units import counted


class Budget(NamedTuple):
    """What a row may cost at most."""

    fps: float | None  # images per second that it must reach
    max_mb: float | None  # size of the file, in 10⁶ bytes

    def __str__(self) -> str:
        """For a line to the user; empty without a budget."""
        speed = [] if self.fps is None else [f"{self.fps:g} images/s at p95"]
        return ", ".join([*speed, *([] if self.max_mb is None else [f"{self.max_mb:g} MB"])])


class Row(NamedTuple):
    """One line of the table."""

    subject: Subject
    runtime: str
    precision: str  # fp32 or int8
    timing: Timing

    @property
    def median(self) -> float:
        """Seconds of a call."""
        return float(np.median(self.timing.seconds))

    @property
    def p95(self) -> float:
        """Seconds that 95 % of the calls took at most."""
        return percentile(self.timing.seconds, 0.95)

    def fits(self, budget: Budget) -> bool:
        """Whether 95 % of the calls reach the images per second, and the file is small enough."""
        return (budget.fps is None or self.timing.shape.batch / self.p95 >= budget.fps) and (
            budget.max_mb is None or self.timing.size <= budget.max_mb * 1e6
        )


class Costs(NamedTuple):
    """All measurements of a command."""

    rows: Sequence[Row]
    remarks: Sequence[str]  # on what was not measured
    threads: int
    rounds: int
    budget: Budget


def keep(costs: Costs) -> Iterator[str]:
    """Keep the measurements of each run's network in its directory, for `kd compare`; a line on each."""
    by_run: dict[Path, list[Measured]] = {}
    for row in costs.rows:
        if row.subject.run_dir is not None:
            by_run.setdefault(row.subject.run_dir, []).append(_measured(row))
    for run_dir, rows in by_run.items():
        try:
            write_latency(run_dir, rows, processor=str(_processor()["processor"]), threads=costs.threads)
            yield f"kept for kd compare: {run_dir / LATENCY}"
        except StorageError as error:  # a finished run may be on a disk that is read-only
            yield f"not kept for kd compare: {error}"


def _measured(row: Row) -> Measured:
    shape = row.timing.shape
    return Measured(
        runtime=row.runtime,
        precision=row.precision,
        batch=shape.batch,
        height=shape.height,
        width=shape.width,
        median_seconds=row.median,
        p95_seconds=row.p95,
    )


def print_table(costs: Costs) -> None:
    """For a reader."""
    rows, budget = costs.rows, str(costs.budget)
    header = ("network", "size", "runtime", "type", "batch", "median ms", "p95 ms", "images/s", "peak MB", "file MB")
    table = make_table(
        (*header, *(["budget"] if budget else [])),
        [(*_cells(row), *(["within" if row.fits(costs.budget) else "over"] if budget else [])) for row in rows],
        left=4,
    )
    threads, rounds = counted(costs.threads, "thread"), counted(costs.rounds, "call")
    print_line(f"{_processor()['processor']}, {threads}, median of {rounds} after {WARM_UP} to warm up")
    stdout().print(table)
    for subject in {row.subject.name: row.subject for row in rows}.values():
        if subject.arithmetic is not None:
            parameters, macs = subject.arithmetic
            of_macs = "" if macs is None else f", {macs / 1e9:.3g} GMAC for an image of {size_text(subject.shape[1:])}"
            print_line(f"{subject.name}: {parameters:,} parameters{of_macs}")
    if budget:
        print_line(f"budget: {budget}; {sum(row.fits(costs.budget) for row in rows)} of {len(rows)} within")
    for remark in costs.remarks:
        print_line(f"not measured: {remark}")


def _cells(row: Row) -> tuple[str, ...]:
    timing = row.timing
    return (
        row.subject.name,
        size_text(timing.shape[2:]),
        RUNTIMES[row.runtime],
        row.precision,
        str(timing.shape.batch),
        _milliseconds(row.median),
        _milliseconds(row.p95),
        f"{timing.shape.batch / row.median:.1f}",
        "–" if timing.memory is None else f"{timing.memory / 1e6:.0f}",
        f"{timing.size / 1e6:.2f}",
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.{1 if seconds >= 0.01 else 2}f}"


def print_json(costs: Costs) -> None:
    """For a program."""
    found = {
        "hardware": _processor(),
        "versions": {name: metadata.version(name) for name in dict.fromkeys(MODULES.values()) if find_spec(name)},
        "threads": costs.threads,
        "warm_up": WARM_UP,
        "rounds": costs.rounds,
        "budget": costs.budget._asdict() if str(costs.budget) else None,
        "rows": [_as_json(row, costs.budget) for row in costs.rows],
        "not_measured": list(costs.remarks),
    }
    print_line(json.dumps(LatencyOutput.model_validate(found).model_dump()))


def _as_json(row: Row, budget: Budget) -> dict[str, Any]:
    arithmetic = row.subject.arithmetic
    return {
        "network": row.subject.name,
        "parameters": arithmetic and arithmetic.parameters,
        "macs": arithmetic and arithmetic.macs,
        "runtime": row.runtime,
        "precision": row.precision,
        **row.timing.shape._asdict(),
        "median_seconds": row.median,
        "p95_seconds": row.p95,
        "images_per_second": row.timing.shape.batch / row.median,
        "peak_bytes": row.timing.memory,
        "file_bytes": row.timing.size,
        "within": row.fits(budget) if str(budget) else None,
    }


def _processor() -> Mapping[str, Any]:
    return hardware(torch.device("cpu"))
