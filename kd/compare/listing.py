"""The rows of `kd list`: every run in a folder of runs, finished or not."""

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
    state: str  # "finished", "unfinished, step 120" or "result.json cannot be read"
    miou: float | None  # a share; the latest of an unfinished run
    changed: datetime


def by_seed(paths: Iterable[Path]) -> list[Path]:
    """The run directories `seed<k>` among `paths`, by k; not those that `--fresh` moved aside."""
    run_dirs = (path for path in paths if re.fullmatch(r"seed\d+", path.name))
    return sorted(run_dirs, key=lambda path: int(path.name.removeprefix("seed")))


def list_runs(runs: Path) -> list[RunLine]:
    """Every run in a folder of runs, by name and seed."""
    run_dirs = [path for path in by_seed(runs.glob("*-*/seed*")) if path.is_dir()]
    results: dict[Path, Result | None] = {}
    for run_dir in run_dirs:
        try:
            results[run_dir] = read_result(run_dir) if is_finished(run_dir) else None
        except StorageError:
            results[run_dir] = None
    finished = [result for result in results.values() if result]
    baselines = {result.baseline.rpartition("-")[2] for result in finished if result.baseline}
    teachers = {Path(result.teacher.run).parent.name for result in finished if result.teacher and result.teacher.run}
    lines = [_line(run_dir, results[run_dir], teachers, baselines) for run_dir in run_dirs]
    return sorted(lines, key=lambda line: (line.name, line.id, line.seed))


def _line(run_dir: Path, result: Result | None, teachers: Container[str], baselines: Container[str]) -> RunLine:
    name, _, identifier = run_dir.parent.name.rpartition("-")
    role: Role = "alone"
    if run_dir.parent.name in teachers:
        role = "teacher"
    elif identifier in baselines:
        role = "baseline"
    elif (result and result.teacher) or has_teacher_score(run_dir):
        role = "student"
    seed = int(run_dir.name.removeprefix("seed"))
    if result is not None:
        miou = scores(val(result, run_dir).confusion).miou
        return RunLine(name, identifier, seed, role, "finished", miou, _time(run_dir / "result.json"))
    metrics = read_metrics(run_dir)
    step = metrics[-1]["step"] if metrics else 0
    scored = [line["val/miou"] for line in metrics if "val/miou" in line]
    state = "result.json cannot be read" if is_finished(run_dir) else f"unfinished, step {step:,}"
    changed = _time(run_dir / "metrics.jsonl", run_dir)
    return RunLine(name, identifier, seed, role, state, scored[-1] if scored else None, changed)


def _time(*files: Path) -> datetime:
    """When the first existing one of the files was last changed."""
    return datetime.fromtimestamp(next(file for file in files if file.exists()).stat().st_mtime)
