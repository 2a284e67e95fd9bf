"""What a run has scored: its `result.json`, and the manifest that proves it."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetPydanticSchema
from pydantic_core import core_schema

from kd.errors import StorageError, shown
from kd.files.checked import STRICT, Count, checked, seal
from kd.files.manifest import (
    INPUTS,
    MANIFEST,
    MAX_OTHER,
    RESULT,
    Digest,
    Id,
    Manifest,
    Sha256,
    again,
    check_owner,
    digest,
    has_file,
    manifest_of,
    read_manifest,
    read_verified,
)
from kd.files.storage import as_json, write_atomic, write_json
from kd.inputs import Inputs
from kd.inputs.record import as_file
from kd.runs.arrays import Arrays, read_arrays
from kd.runs.counts import COUNTS, Counts, ImageCounts, counts_in, write_counts

FORMAT: Final = 2  # of result.json, which has a manifest.json beside it
OLD_FORMAT = 1  # of kd 0.1 and 0.2, without a manifest

SPLIT = "val"  # that every run is scored on, and that tables compare
MAX_PATH = 4096  # characters
NOT_RECORDED = "inputs not recorded"  # by version 0.2 and earlier
Against = Literal["labels", "teacher"]  # whose classes a score compares the predictions with


def _as_counts(rows: Sequence[Sequence[int]]) -> Counts:
    """Numbers from a file as a square matrix."""
    if any(len(row) != len(rows) for row in rows):
        raise ValueError(f"a row does not have {len(rows)} numbers, as many as there are rows")
    if sum(map(sum, rows)) > 2**53:
        raise ValueError("more than 2^53 pixels")
    return np.array(rows, np.int64).reshape(len(rows), len(rows))


_MATRIX = core_schema.list_schema(core_schema.list_schema(core_schema.int_schema(strict=True, ge=0, le=2**53)))
_Matrix = Annotated[
    Counts, GetPydanticSchema(lambda *_: core_schema.no_info_after_validator_function(_as_counts, _MATRIX))
]


def _folder(name: str) -> str:
    """The name of a recipe's folder of runs: it is looked for on the disk."""
    if not re.fullmatch(r"[^/\0]{1,240}-[0-9a-f]+", name):
        raise ValueError(f"{shown(name)} is no folder of runs")
    return name


def _path(text: str) -> str:
    if "\0" in text or len(text) > MAX_PATH:
        raise ValueError(f"{shown(text)} is no path")
    return text


Folder = Annotated[str, AfterValidator(_folder)]
RunPath = Annotated[str, AfterValidator(_path)]
_Amount = Annotated[float, Field(ge=0, le=1e15)]  # so that products and sums over seeds are finite
LARGEST = 1e300  # value of a metric: sums over seeds are finite
_Value = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


class _Format(BaseModel):
    """What every `result.json` states, of whatever format."""

    model_config = ConfigDict(strict=True)

    format: int


class MetricResult(NamedTuple):
    """The values of a further metric of a recipe (`evaluate.metrics`) on a split."""

    values: Annotated[dict[str, _Value | None], Field(min_length=1)]  # by name; tables show the first
    unit: str  # "%": the values are shares from 0 to 1
    direction: str  # "higher" or "lower": which is better

    @property
    def headline(self) -> float | None:
        """The value that tables show."""
        return next(iter(self.values.values()))


MetricResult.__pydantic_config__ = STRICT  # type: ignore[attr-defined]  # not a field


_NotInFiles = Annotated[ImageCounts | None, GetPydanticSchema(lambda *_: core_schema.none_schema())]


@dataclass(frozen=True, eq=False)
class SplitResult:
    """A network's score on one split: the confusion matrix, from which scores are computed, and further metrics."""

    __pydantic_config__ = STRICT

    confusion: _Matrix  # int64 (K, K), rows are labels, columns predictions
    classes: list[str]
    images: Count
    metrics: dict[str, MetricResult] = field(default_factory=dict)  # by the metric's label
    per_image: _NotInFiles = None  # of a network that this process scored; written to counts.npz
    against: Against = "labels"  # "teacher": agreement with its classes, as no pixel is labelled

    def __post_init__(self) -> None:
        if self.confusion.shape != (len(self.classes), len(self.classes)):
            rows, columns = self.confusion.shape
            raise ValueError(f"the confusion matrix is {rows}×{columns}, but there are {len(self.classes)} classes")

    @property
    def title(self) -> str:
        """What a line for the user calls its mIoU."""
        return "mIoU" if self.against == "labels" else "agreement with the teacher (mIoU)"

    def __eq__(self, other: object) -> bool:
        """Whether both are the same score, apart from `per_image`."""
        return isinstance(other, SplitResult) and plain(self) == plain(other)


def _with_val(splits: dict[str, SplitResult]) -> dict[str, SplitResult]:
    if SPLIT not in splits:
        raise ValueError(f"has scores on {', '.join(splits) or 'nothing'}, not on {SPLIT}")
    return splits


Splits = Annotated[dict[str, SplitResult], AfterValidator(_with_val)]  # by name


@dataclass(frozen=True)
class TeacherResult:
    """The teacher of a run, scored by the same code on the same split as the student."""

    __pydantic_config__ = STRICT

    name: str
    network: str
    run: RunPath | None  # `<stem>-<id>/seed<k>`; of kd 0.3 and older, its path
    parameters: Count
    splits: Splits


class ResultInputs(NamedTuple):
    """What `result.json` keeps of `inputs.json`, so that tables need not read it."""

    train: Sha256 | Literal[""]  # of the split's files, in hex digits; empty if they were not recorded
    val: Sha256 | Literal[""]
    revision: int  # `kd.RESULTS_REVISION` of the kd that trained
    marks: tuple[str, ...] = ()  # accepted differences, and files that changed in training


ResultInputs.__pydantic_config__ = STRICT  # type: ignore[attr-defined]  # not a field


def marks_of(inputs: ResultInputs | None) -> tuple[str, ...]:
    """What every table shows about the inputs of a run."""
    return (NOT_RECORDED,) if inputs is None else inputs.marks


@dataclass(frozen=True)
class Result:
    """The content of a finished run's `result.json`."""

    __pydantic_config__ = STRICT

    id: Id
    name: str  # the recipe's stem
    seed: Count
    role: str  # "student", "baseline" (a student without a teacher) or "teacher"
    network: str
    teacher: TeacherResult | None
    baseline: Folder | None  # the folder of the baseline's runs, beside this run's
    select: str  # "last" or "best": which step's weights were scored
    splits: Splits
    parameters: Count
    seconds: _Amount  # of training, over all sessions
    images_per_second: _Amount
    peak_memory: Count | None  # bytes, over all sessions, see kd.memory; None where it is not measured
    versions: dict[str, str]
    remarks: list[str] = field(default_factory=list)  # on how its networks started; tables repeat them
    inputs: ResultInputs | None = None  # None: version 0.2 or earlier did not record them
    format: Literal[1, 2] = FORMAT

    @property
    def marks(self) -> tuple[str, ...]:
        """What every table shows about the inputs of the run."""
        return marks_of(self.inputs)


def write_result(run_dir: Path, result: Result) -> None:
    """Write `counts.npz`, `result.json` and last `manifest.json`, with which the run is finished."""
    write_counts(run_dir / COUNTS, per_image(result.splits))
    teacher = result.teacher
    content = vars(result) | {"splits": _plain_splits(result.splits)}
    del content["inputs"]
    if result.inputs is not None:
        content["inputs"] = result.inputs._asdict()
    if teacher is not None:
        content |= {"teacher": vars(teacher) | {"splits": _plain_splits(teacher.splits)}}
    if not result.remarks:
        del content["remarks"]
    write_json(run_dir / RESULT, content)
    write_manifest(run_dir, id=result.id, seed=result.seed)


def forget_result(run_dir: Path) -> None:
    """Remove `manifest.json` and `result.json`, if they are there: the run is not finished."""
    for name in (MANIFEST, RESULT):
        (run_dir / name).unlink(missing_ok=True)


def write_manifest(run_dir: Path, *, id: str, seed: int) -> None:
    """Write `manifest.json` from the files that the run directory has."""
    write_atomic(run_dir / MANIFEST, seal(manifest_of(run_dir, id, seed)))


def replace_files(run_dir: Path, files: Mapping[str, bytes]) -> None:
    """Replace files of a finished run, in this order; those that stay the same are not written.

    Until all are written, the manifest lists what they are and what they become.

    Args:
        run_dir: the run directory, which nobody else writes to.
        files: by their names, the new contents.

    Raises:
        WeightsError, StorageError: a file is damaged, as `read_verified`; or cannot be written, and all stay proven.
    """
    manifest = read_manifest(run_dir)
    unclear = [] if manifest is None else manifest.becomes  # of a replacement that was killed: either content
    before = {name: read_verified(run_dir, name) for name in (*files, *unclear) if has_file(run_dir, name)}
    changed = {name: data for name, data in files.items() if before.get(name) != data}
    if manifest is None or not (changed or unclear):
        _write_all(run_dir, changed)
        return
    listed = manifest.files | _digests(before)
    _write_listed(run_dir, manifest, listed, becomes=_digests(changed))
    _write_all(run_dir, changed)
    _write_listed(run_dir, manifest, listed | _digests(changed), becomes={})


def _write_all(run_dir: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        write_atomic(run_dir / name, data)


def _write_listed(run_dir: Path, manifest: Manifest, files: dict[str, Digest], *, becomes: dict[str, Digest]) -> None:
    changed = manifest.model_copy(update={"files": files, "becomes": becomes})
    write_atomic(run_dir / MANIFEST, seal(changed.model_dump(exclude={"sha256"} if becomes else {"sha256", "becomes"})))


def _digests(files: Mapping[str, bytes]) -> dict[str, Digest]:
    return {name: digest(data) for name, data in files.items()}


def read_result(run_dir: Path) -> Result:
    """Read a finished run's `result.json`, and compare it with the run's manifest and directory.

    Raises:
        StorageError: the file is missing, damaged, of another run, or of a format that this version cannot read.
    """
    file, data = run_dir / RESULT, read_verified(run_dir, RESULT)
    try:
        result = checked(data, Result, str(file))
    except StorageError as error:
        stated = FORMAT
        with suppress(StorageError):
            stated = checked(data, _Format, str(file)).format
        if stated > FORMAT:
            fix = f"update kd, or {again(run_dir)}"
            raise StorageError(f"{file}: has format {stated}, but this version reads {FORMAT}; {fix}") from None
        raise StorageError(f"{error}; {again(run_dir)}") from None
    if result.format > OLD_FORMAT and read_manifest(run_dir) is None:
        raise StorageError(f"{run_dir / MANIFEST}: missing, so {RESULT} cannot be verified; {again(run_dir)}")
    check_owner(run_dir, RESULT, result.id, result.seed)
    return result


def read_counts(run_dir: Path, name: str = COUNTS) -> dict[str, ImageCounts]:
    """Read the counts of each image in a finished run's final score, by split; empty if the run has none.

    Args:
        run_dir: the run directory.
        name: `COUNTS`; or `TEACHER_COUNTS`, of its teacher on the same images.

    Raises:
        StorageError: the file or the result is damaged; or the counts are not those of the score.
    """
    if not has_file(run_dir, name):
        return {}
    result = read_result(run_dir)
    scored = result if name == COUNTS else result.teacher

    def convert(arrays: Arrays) -> dict[str, ImageCounts]:
        found = counts_in(arrays)
        for split, images in found.items():
            if scored is None or split not in scored.splits or not _are_of(images, scored.splits[split]):
                raise ValueError(f"on {split}, its counts do not add up to the score in {RESULT}")
        return found

    return read_arrays(run_dir, name, convert, limit=MAX_OTHER)


def _are_of(images: ImageCounts, split: SplitResult) -> bool:
    matrix = split.confusion
    of_score = np.stack((matrix.diagonal(), matrix.sum(0), matrix.sum(1)), 1)
    return len(images.names) == split.images and np.array_equal(images.counts.sum(0), of_score)


def replace_inputs(run_dir: Path, inputs: Inputs, in_result: ResultInputs) -> None:
    """Replace what a finished run, which this process has locked, has recorded of its inputs.

    Raises:
        StorageError: a file of the run is damaged, or cannot be written.
    """
    result = read_result(run_dir)
    content = checked(read_verified(run_dir, RESULT), dict[str, Any], str(run_dir / RESULT))
    in_file = inputs.model_copy(update={"id": result.id, "seed": result.seed})
    replace_files(
        run_dir,
        {
            RESULT: as_json(content | {"inputs": in_result._asdict()}),  # first: tables show a mark that is accepted
            INPUTS: as_file(in_file),
        },
    )


def plain(split: SplitResult) -> dict[str, Any]:
    """A score as JSON stores it; `metrics` and `against` only if they are not the usual ones."""
    metrics = {name: metric._asdict() for name, metric in split.metrics.items()}
    plain = {"confusion": split.confusion.tolist(), "classes": list(split.classes), "images": split.images}
    against = {} if split.against == "labels" else {"against": split.against}
    return plain | ({"metrics": metrics} if metrics else {}) | against


def per_image(splits: Mapping[str, SplitResult]) -> dict[str, ImageCounts]:
    """The counts of each image, of the splits that have them."""
    return {name: split.per_image for name, split in splits.items() if split.per_image is not None}


def _plain_splits(splits: Mapping[str, SplitResult]) -> dict[str, Any]:
    return {name: plain(split) for name, split in splits.items()}
