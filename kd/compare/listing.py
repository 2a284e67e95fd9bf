"""The rows of `kd list`: every run in a folder of runs, finished or not."""

import os
import warnings
from collections.abc import Container, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from kd.compare import tables
from kd.compare.comparison import Role
from kd.errors import StorageError, WeightsError
from kd.files.manifest import METRICS, RESULT, WEIGHTS, check_sizes, is_left_out
from kd.metrics import scores
from kd.runs import (
    OLD_FORMAT,
    SPLIT,
    Overview,
    by_seed,
    has_teacher_score,
    latest,
    may_be_finished,
    read_failure,
    read_overview,
)
from kd.units import percent


class RunLine(NamedTuple):
    """One run directory in a list of runs."""

    name: str  # the recipe's stem
    id: str
    seed: int
    role: Role
    state: str  # "finished", "finished, …", "unfinished, step 120", "failed, step 120: why", "damaged: why"
    miou: float | None  # a share; the latest of an unfinished run
    changed: datetime
    marks: tuple[str, ...] = ()  # on the inputs of a finished run


def list_runs(runs: Path) -> list[RunLine]:
    """Every run in a folder of runs, by name and seed; a damaged one does not hide the others."""
    results: dict[Path, Overview | str | None] = {run_dir: _read(run_dir) for run_dir in run_directories(runs)}
    finished = [result for result in results.values() if isinstance(result, Overview)]
    baselines = {result.baseline.rpartition("-")[2] for result in finished if result.baseline}
    teachers = {Path(result.teacher.run).parent.name for result in finished if result.teacher and result.teacher.run}
    lines = [_line(run_dir, result, teachers, baselines) for run_dir, result in results.items()]
    return sorted(lines, key=lambda line: (line.name, line.id, line.seed))


def list_rows(lines: Sequence[RunLine]) -> tuple[list[str], list[list[str]]]:
    """The list of runs as text: header and rows."""
    header = ["run", "id", "seed", "role", "val mIoU %", "changed", "state"]
    rows = [
        [
            line.name,
            line.id,
            str(line.seed),
            line.role,
            percent(line.miou),
            f"{line.changed:%Y-%m-%d %H:%M}",
            f"{line.state}, {tables.marked(line.marks)}" if line.marks else line.state,
        ]
        for line in lines
    ]
    return header, rows


def run_directories(runs: Path) -> list[Path]:
    """The run directories in a folder of runs."""
    if not runs.is_dir():
        return []
    with os.scandir(runs) as entries:
        folders = [entry.path for entry in entries if "-" in entry.name and _is_folder(entry)]
    found: list[Path] = []
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                found += [Path(entry.path) for entry in entries if entry.name.startswith("seed") and _is_folder(entry)]
        except OSError as error:  # of another user
            warnings.warn(f"{folder}: cannot be read ({error.strerror}); its runs are left out", stacklevel=2)
    return by_seed(found)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that nobody may look into
        return False


def _read(run_dir: Path) -> Overview | str | None:
    """The result of a finished run; why it is damaged; None of an unfinished one."""
    try:
        if not may_be_finished(run_dir):
            return None
        result = read_overview(run_dir)
        check_sizes(run_dir)
    except (StorageError, WeightsError) as error:
        return str(error).removeprefix(f"{run_dir}{os.sep}").partition(";")[0]
    return result


def _line(run_dir: Path, result: Overview | str | None, teachers: Container[str], baselines: Container[str]) -> RunLine:
    name, _, identifier = run_dir.parent.name.rpartition("-")
    role: Role = "alone"
    if run_dir.parent.name in teachers:
        role = "teacher"
    elif identifier in baselines:
        role = "baseline"
    elif result.teacher if isinstance(result, Overview) else has_teacher_score(run_dir):
        role = "student"
    seed = int(run_dir.name.removeprefix("seed"))
    if isinstance(result, Overview):
        state = "finished" if result.format > OLD_FORMAT else "finished, not verified"
        if is_left_out(run_dir, WEIGHTS):
            state += ", weights not kept"
        split = result.splits[SPLIT]
        miou = scores(split.confusion).miou if split.against == "labels" else None
        return RunLine(name, identifier, seed, role, state, miou, _time(run_dir / RESULT), result.marks)
    if isinstance(result, str):
        return RunLine(name, identifier, seed, role, f"damaged: {result}", None, _time(run_dir / RESULT, run_dir))
    step, miou_so_far = latest(run_dir)
    changed = _time(run_dir / METRICS, run_dir)
    failure = read_failure(run_dir)
    state = f"unfinished, step {step:,}" if failure is None else f"failed, step {step:,}: {failure.why}"
    return RunLine(name, identifier, seed, role, state, miou_so_far, changed)


def _time(*files: Path) -> datetime:
    """When the first existing one of the files was last changed; 1970 if no file is left, or its time is no date."""
    for file in files:
        with suppress(OSError, ValueError, OverflowError):
            return datetime.fromtimestamp(file.stat().st_mtime)
    return datetime.fromtimestamp(0)
