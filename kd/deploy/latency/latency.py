"""`kd latency`: what networks and exported files cost on this machine's processor, in every runtime that is there."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from kd.components import missing
from kd.console import print_line, say
from kd.deploy.latency.costs import Budget, Costs, Row, keep, print_json, print_table
from kd.deploy.latency.loading import MODULES, RUNTIMES, loader, planned
from kd.deploy.latency.subjects import Source, find_subjects
from kd.deploy.timing import CannotMeasureError, is_int8, measured
from kd.errors import RecipeError, StorageError
from kd.machine import cores


def latency_command(
    names: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    runs: Path,
    trust: bool = False,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    batch: int = 1,
    classes: int = 21,
    rounds: int = 30,
    runtimes: Sequence[str] | None = None,
    int8: bool = False,
    fps: float | None = None,
    max_mb: float | None = None,
    as_json: bool = False,
) -> None:
    """Print a table of latency, throughput, memory and bytes.

    Args:
        names: runs, recipes, exported files or folders of them, and networks such as students.MobileNetV2UNet.
        overrides: `path=value` texts for the recipes.
        runs: where run directories are.
        trust: whether a recipe may name code outside kd.
        size: (H, W) in pixels; None: of the recipe or the file, else 512 × 512.
        threads: of every runtime; None: as many as there are cores.
        batch: images in a call, besides 1.
        classes: of networks that no recipe gives any.
        rounds: timed calls.
        runtimes: of `kd.deploy.latency.loading.RUNTIMES`; None: all.
        int8: whether networks are also measured in INT8.
        fps: images per second that a row must reach to be within the budget.
        max_mb: its largest size, in 10⁶ bytes.
        as_json: print JSON in place of the table.

    Raises:
        RecipeError: a name is none of these, a number is out of range, or nothing could be measured.
        StorageError: the files of networks cannot be written.
    """
    threads = threads or cores()
    if threads > cores():
        raise RecipeError(f"--threads {threads}: this process has {cores()} cores; use at most {cores()}")
    wanted = [name for name in RUNTIMES if runtimes is None or name in runtimes]
    absent = {name: missing(MODULES[name], name) for name in wanted if find_spec(MODULES[name]) is None}
    remarks = list(absent.values())
    present = [name for name in wanted if name not in absent]
    rows: list[Row] = []
    with _files_of_a_moment() as folder:
        sources = [Source(name, tuple(overrides), runs, trust, classes) for name in names]
        subjects = [subject for source in sources for subject in find_subjects(source, size)]
        for number, subject in enumerate(subjects):
            for cell in planned(subject, present, batch, int8=int8):
                if not as_json:
                    say(f"measuring {subject.name}, {cell}")
                try:
                    load, file = loader(subject, cell, folder / str(number), fixed=size is not None)
                    timing = measured(load, runtime=MODULES[cell.runtime], threads=threads, rounds=rounds)
                except CannotMeasureError as error:
                    remarks.append(f"{subject.name}: {cell}: {error}")
                    continue
                precision = "int8" if file is not None and is_int8(file) else "fp32"
                rows.append(Row(subject, cell.runtime, precision, timing))
    if not rows:
        raise RecipeError([f"kd latency: {remark}" for remark in remarks or ["no runtime to measure with"]])
    costs = Costs(rows, remarks, threads, rounds, Budget(fps, max_mb))
    (print_json if as_json else print_table)(costs)
    for line in keep(costs):
        if not as_json:
            print_line(line)


@contextmanager
def _files_of_a_moment() -> Iterator[Path]:
    """A folder for the files of networks."""
    try:
        with tempfile.TemporaryDirectory(prefix="kd-latency-") as folder:
            yield Path(folder)
    except OSError as error:
        why = f"cannot be written ({error.strerror})"
        raise StorageError(f"{tempfile.gettempdir()}: {why}; free space, or set TMPDIR to another folder") from None
