"""A run directory: its path and its content. Reading a result needs no torch.

runs/<recipe's stem>-<id>/seed<k>/
    recipe.yaml          the resolved recipe
    environment.json     versions, hardware, command
    log.txt              everything that the run reported, with times
    metrics.jsonl        one line per report, with its step
    events.out.tfevents  TensorBoard
    checkpoints/         see kd.train.checkpoint
    teacher.json         the teacher's score on the same images
    student.safetensors  the finished network's weights, see kd.parts.trained
    counts.npz           each image's counts in the final score
    result.json          the final score: every table is computed from it
"""

import io
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kd.errors import LockedError, StorageError
from kd.reading import check_file, read_bytes, read_text
from kd.recipe import Recipe, read_recipe
from kd.storage import read_json, write_atomic, write_json

FORMAT = 1  # of result.json
MAX_METRICS = 1_000_000_000  # bytes of metrics.jsonl: a run of some million steps

Counts = NDArray[np.int64]


class MetricResult(NamedTuple):
    """The values of a further metric of a recipe (`evaluate.metrics`) on a split."""

    values: dict[str, float | None]  # by name; tables show the first
    unit: str  # "%": the values are shares from 0 to 1
    direction: str  # "higher" or "lower": which is better

    @property
    def headline(self) -> float | None:
        """The value that tables show."""
        return next(iter(self.values.values()))


class ImageCounts(NamedTuple):
    """The pixels of every image of a split, by class; summed over the images, they are sums of the confusion matrix."""

    names: tuple[str, ...]  # of the images, in the dataset's order
    counts: Counts  # int64 (images, K, 3): the intersection of labels and predictions, predicted, labelled


@dataclass(frozen=True, eq=False)
class SplitResult:
    """A network's score on one split: the confusion matrix, from which scores are computed, and further metrics."""

    confusion: Counts  # int64 (K, K), rows are labels, columns predictions
    classes: list[str]
    images: int
    metrics: dict[str, MetricResult] = field(default_factory=dict)  # by the metric's label
    per_image: ImageCounts | None = None  # of a network that this process scored; written to counts.npz

    def __eq__(self, other: object) -> bool:
        """Whether both are the same score, apart from `per_image`."""
        return isinstance(other, SplitResult) and _plain(self) == _plain(other)


@dataclass(frozen=True)
class TeacherResult:
    """The teacher of a run, scored by the same code on the same split as the student."""

    name: str
    network: str
    run: str | None
    parameters: int
    splits: dict[str, SplitResult]


@dataclass(frozen=True)
class Result:
    """The content of a finished run's `result.json`."""

    id: str
    name: str  # the recipe's stem
    seed: int
    role: str  # "student", "baseline" (a student without a teacher) or "teacher"
    network: str
    teacher: TeacherResult | None
    baseline: str | None  # the folder of the baseline's runs, beside this run's
    select: str  # "last" or "best": which step's weights were scored
    splits: dict[str, SplitResult]
    parameters: int
    seconds: float  # of training, over all sessions
    images_per_second: float
    peak_memory: int  # bytes: CUDA's peak, or the process's resident peak on a CPU
    versions: dict[str, str]
    format: int = FORMAT


def run_directory(recipe: Recipe, runs: Path, seed: int) -> Path:
    """`runs/<stem>-<id>/seed<k>`, or the directory of a recipe with another name and the same id, if it exists.

    Distilled recipes that share a baseline therefore train it once.
    """
    name = f"{recipe.stem}-{recipe.id}"
    if not (runs / name).is_dir():
        name = min((path.name for path in runs.glob(f"*-{recipe.id}")), default=name)
    return runs / name / f"seed{seed}"


def write_result(run_dir: Path, result: Result) -> None:
    """Write `counts.npz`, then `result.json`, with which the run is finished."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, split in result.splits.items():
        if split.per_image is not None:
            arrays |= {name: split.per_image.counts, f"{name}/names": np.array(split.per_image.names, np.str_)}
    if arrays:
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # the stub takes a name for `allow_pickle`
        write_atomic(run_dir / "counts.npz", file.getbuffer())
    teacher = result.teacher
    content = vars(result) | {"splits": _plain_splits(result.splits)}
    if teacher is not None:
        content |= {"teacher": vars(teacher) | {"splits": _plain_splits(teacher.splits)}}
    write_json(run_dir / "result.json", content)


def is_finished(run_dir: Path) -> bool:
    """Whether the run has a result."""
    return (run_dir / "result.json").is_file()


def read_result(run_dir: Path) -> Result:
    """Read a finished run's `result.json`.

    Raises:
        StorageError: the file is missing, damaged, or of a format that this version cannot read.
    """
    file = run_dir / "result.json"
    content = read_json(file)
    try:
        if content["format"] == FORMAT:
            teacher = content["teacher"]
            if teacher is not None:
                teacher = TeacherResult(**(teacher | {"splits": _splits(teacher["splits"])}))
            return Result(**(content | {"teacher": teacher, "splits": _splits(content["splits"])}))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StorageError(f"{file}: is not a result of kd ({error}); delete the file and run again") from None
    raise StorageError(f"{file}: has format {content['format']}, but this version reads {FORMAT}; update kd")


def read_counts(run_dir: Path) -> dict[str, ImageCounts]:
    """Read the counts of each image in a run's final score, by split; empty if the run has no `counts.npz`.

    Raises:
        StorageError: the file is damaged.
    """
    file = run_dir / "counts.npz"
    if not file.is_file():
        return {}
    check_file(file, "the counts of a run", StorageError, inside=run_dir)
    try:
        with file.open("rb") as binary, np.load(binary) as content:
            splits = [name for name in content.files if f"{name}/names" in content.files]
            return {name: ImageCounts(tuple(content[f"{name}/names"].tolist()), content[name]) for name in splits}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise StorageError(f"{file}: cannot be read ({error}); run the recipe again with --fresh") from None


def write_teacher_score(run_dir: Path, split: SplitResult) -> None:
    """Write `teacher.json`: the teacher's score, computed once before the run trains."""
    write_json(run_dir / "teacher.json", _plain(split))


def has_teacher_score(run_dir: Path) -> bool:
    """Whether the teacher of the run has been scored."""
    return (run_dir / "teacher.json").is_file()


def read_teacher_score(run_dir: Path) -> SplitResult:
    """Read a run's `teacher.json`.

    Raises:
        StorageError: the file is missing or damaged.
    """
    file = run_dir / "teacher.json"
    content = read_json(file)
    try:
        return _split(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StorageError(f"{file}: is not a score of kd ({error}); delete the file and run again") from None


def _plain(split: SplitResult) -> dict[str, Any]:
    """A score as JSON stores it; `metrics` only if there are further metrics."""
    metrics = {name: metric._asdict() for name, metric in split.metrics.items()}
    plain = {"confusion": split.confusion.tolist(), "classes": list(split.classes), "images": split.images}
    return plain | ({"metrics": metrics} if metrics else {})


def _plain_splits(splits: Mapping[str, SplitResult]) -> dict[str, Any]:
    return {name: _plain(split) for name, split in splits.items()}


def _split(content: dict[str, Any]) -> SplitResult:
    metrics = {name: MetricResult(**metric) for name, metric in content.get("metrics", {}).items()}
    return SplitResult(**(content | {"confusion": np.array(content["confusion"], np.int64), "metrics": metrics}))


def _splits(content: dict[str, Any]) -> dict[str, SplitResult]:
    return {name: _split(split) for name, split in content.items()}


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Read the lines of `metrics.jsonl`, oldest first; none without a file. An incomplete last line is left out.

    A damaged line is left out with a warning: a curve with a gap is still useful, and scores come from `result.json`.
    """
    file = run_dir / "metrics.jsonl"
    if not file.is_file():
        return []
    try:
        content = read_bytes(file, "the metrics of a run", StorageError, limit=MAX_METRICS, inside=run_dir)
    except StorageError as error:
        warnings.warn(f"{error}; its curves are left out", stacklevel=2)
        return []
    lines = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            values = json.loads(line)
            if not isinstance(values["step"], int):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            warnings.warn(f"{file}:{number}: not a line of metrics (the file is damaged); line skipped", stacklevel=2)
        else:
            lines.append(values)
    return lines


def read_run_recipe(run_dir: Path, *, trust: bool = False) -> Recipe:
    """Read the recipe in a run directory; no file that it names is opened.

    Raises:
        RecipeError: the recipe is missing or wrong, or names code that is not trusted.
    """
    return read_recipe(run_dir / "recipe.yaml", trust=trust, id=run_dir.parent.name.rpartition("-")[2])


def teacher_directories(recipe: Recipe, runs: Path) -> list[Path]:
    """The run directories of a recipe's teacher, one per seed of its recipe; none for a teacher without a run."""
    if recipe.teacher is None:
        return []
    if recipe.teacher.run is not None:
        return [Path(recipe.teacher.run)]
    teacher = recipe.teacher_recipe
    return [run_directory(teacher, runs, seed) for seed in teacher.train.seeds] if teacher else []


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Lock a run directory against all other processes while the block runs.

    Raises:
        LockedError: another process uses the directory; the message names that process.
        StorageError: the directory cannot be created.
    """
    owner = run_dir / ".owner"
    lock = FileLock(run_dir / ".lock")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        name = read_text(owner, "the name of a process", StorageError) if owner.is_file() else "another process"
        raise LockedError(f"{run_dir}: in use by {name}") from None
    except OSError as error:
        raise StorageError(f"{run_dir}: cannot be written ({error.strerror}); choose --runs DIR") from None
    try:
        owner.write_text(f"process {os.getpid()} on {os.uname().nodename}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
