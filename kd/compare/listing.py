"""What `kd list` shows: every run in a folder of runs, finished or not."""

import re
from collections.abc import Container, Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from kd.compare.comparison import Role, val
from kd.errors import StorageError
from kd.metrics import scores
from kd.runs import Result, has_teacher_score, is_finished, read_metrics, read_result


class RunLine(NamedTuple):
    """One run directory in a list of runs."""

    name: str  # the recipe's stem
    id: str
    seed: int
    role: Role
    state: str  # "finished", "unfinished, step 120", or what is wrong with it
    miou: float | None  # a share; of an unfinished run, its latest
    changed: datetime


def by_seed(paths: Iterable[Path]) -> list[Path]:
    """The run directories among them, `seed<k>` by k; a directory that `--fresh` moved aside is none."""
    found = (path for path in paths if re.fullmatch(r"seed\d+", path.name))
    return sorted(found, key=lambda path: int(path.name.removeprefix("seed")))


def list_runs(runs: Path) -> list[RunLine]:
    """Every run in a folder of runs, by name and seed."""
    folders = [run for run in by_seed(runs.glob("*-*/seed*")) if run.is_dir()]
    results: dict[Path, Result | None] = {}
    for run in folders:
        try:
            results[run] = read_result(run) if is_finished(run) else None
        except StorageError:
            results[run] = None
    finished = [result for result in results.values() if result]
    twins = {result.baseline.rpartition("-")[2] for result in finished if result.baseline}
    taught = {Path(result.teacher.run).parent.name for result in finished if result.teacher and result.teacher.run}
    lines = [_line(run, results[run], taught, twins) for run in folders]
    return sorted(lines, key=lambda line: (line.name, line.id, line.seed))


def _line(run: Path, result: Result | None, taught: Container[str], twins: Container[str]) -> RunLine:
    name, _, identifier = run.parent.name.rpartition("-")
    role: Role = "alone"
    if run.parent.name in taught:
        role = "teacher"
    elif identifier in twins:
        role = "baseline"
    elif (result and result.teacher) or has_teacher_score(run):
        role = "student"
    seed = int(run.name.removeprefix("seed"))
    if result is not None:
        miou = scores(val(result, run).confusion).miou
        return RunLine(name, identifier, seed, role, "finished", miou, _time(run / "result.json"))
    metrics = read_metrics(run)
    step = metrics[-1]["step"] if metrics else 0
    found = [line["val/miou"] for line in metrics if "val/miou" in line]
    state = "result.json cannot be read" if is_finished(run) else f"unfinished, step {step:,}"
    return RunLine(name, identifier, seed, role, state, found[-1] if found else None, _time(run / "metrics.jsonl", run))


def _time(*files: Path) -> datetime:
    """When the first of the files that exists was last changed."""
    return datetime.fromtimestamp(next(file for file in files if file.exists()).stat().st_mtime)
