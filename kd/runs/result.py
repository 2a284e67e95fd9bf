"""What a run has scored: its result, each image's counts, and its teacher's score."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.errors import StorageError
from kd.reading import check_file
from kd.storage import read_json, write_atomic, write_json

FORMAT = 1  # of result.json

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
    peak_memory: int | None  # bytes, over all sessions, see kd.memory; None where it is not measured
    versions: dict[str, str]
    format: int = FORMAT


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
