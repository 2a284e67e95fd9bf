"""What a run reads: listed when it starts, and compared with what it read before."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

from kd import runs
from kd.console import progress
from kd.constants import RESULTS_REVISION
from kd.data.dataset import component_name
from kd.errors import DataError, raised
from kd.files.fingerprint import stamp
from kd.inputs import (
    WAS_NOT_RECORDED,
    Accepted,
    Inputs,
    Listed,
    Split,
    SplitInputs,
    TeacherInputs,
    differences,
    has_inputs,
    read_inputs,
    rows_of,
)
from kd.inputs.hashing import Rows
from kd.recipe import Recipe
from kd.recipe.sources import digest_of
from kd.types import SegmentationDataset

IN_RESULT: tuple[Split, Split] = ("train", "val")


@dataclass(frozen=True)
class ListedSplit:
    """The files of a split as its dataset lists them; or the names of its samples and, as labels, the files of all."""

    images: tuple[Listed, ...]
    labels: tuple[Listed, ...]
    names: tuple[str, ...]
    samples: int


@dataclass(frozen=True)
class Found:
    """What a run would read now."""

    recipe: Recipe
    classes: tuple[str, ...]
    splits: dict[Split, ListedSplit]
    teacher: TeacherInputs | None

    def recorded(
        self, before: Inputs | None, waiting: Callable[[], None] = lambda: None, *, quiet: bool = True
    ) -> Inputs:
        """The record of it.

        Args:
            before: what was recorded; a file with the same stamp keeps its hash.
            waiting: called now and then; may raise to stop.
            quiet: show no progress.

        Raises:
            DataError: a file cannot be read.
        """
        known = {} if before is None else before.splits
        rows: dict[Split, tuple[Rows, Rows]] = {}
        for name, split in self.splits.items():
            of_split = known.get(name, SplitInputs(samples=0))
            of_images = rows_of(split.images, of_split.images, all_files=False)
            rows[name] = of_images, rows_of(split.labels, of_split.labels)
        total, numbers = sum(len(part.unknown) for parts in rows.values() for part in parts), count(1)
        splits: dict[Split, SplitInputs] = {}
        with progress("hashes the inputs", total, "files", quiet=quiet or not total) as advance:

            def each() -> None:
                waiting()
                advance(next(numbers))

            for name, split in self.splits.items():
                try:
                    images, labels = (part.hashed(each) for part in rows[name])
                except OSError as error:
                    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
                splits[name] = SplitInputs(images=images, labels=labels, names=split.names, samples=split.samples)
        return Inputs(
            revision=RESULTS_REVISION,
            classes=self.classes,
            splits=splits,
            teacher=self.teacher,
            files=dict(self.recipe.sources.files),
            accepted=() if before is None else before.accepted,
            changed=() if before is None else before.changed,
        )


def find(
    recipe: Recipe,
    train: SegmentationDataset,
    val: SegmentationDataset,
    teacher: Path | None,
    unlabelled: SegmentationDataset | None = None,
) -> Found:
    """List what a run of a recipe reads: the files of its splits, and the weights of its teacher's run.

    Raises:
        DataError: a dataset cannot list its files.
    """
    root = recipe.data.args.get("root")
    base = os.path.abspath(root) if isinstance(root, str) else None
    splits: dict[Split, ListedSplit] = {"train": _listed(train, base), "val": _listed(val, base)}
    if unlabelled is not None and recipe.data.unlabelled is not None:
        folder = recipe.data.unlabelled.images
        splits["unlabelled"] = _listed(unlabelled, base if folder is None else os.path.abspath(folder))
    weights = None if teacher is None else digest_of(str(teacher))
    taught = TeacherInputs(run=runs.short_name(teacher), sha256=weights) if teacher and weights else None
    return Found(recipe, tuple(train.class_names), splits, taught)


def _listed(dataset: SegmentationDataset, base: str | None) -> ListedSplit:
    """The files of one split, with names relative to `base`, or to the folder that all are in."""
    samples, files = len(dataset), getattr(dataset, "files", None)
    images: list[str] = []
    labels: dict[str, None] = {}
    names: tuple[str, ...] = ()
    if not files:
        stated = [os.path.abspath(name) if base else name for name in map(str, getattr(dataset, "names", ())[:samples])]
        names = tuple(_relative(name, base) for name in stated)
        labels = dict.fromkeys(os.path.abspath(path) for path in getattr(dataset, "sources", ()))
    try:
        for of_sample in map(files, range(samples)) if files else ():
            paths = [os.path.abspath(path) for path in of_sample]
            images += paths[:1]
            labels |= dict.fromkeys(paths[1:])
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{component_name(dataset)}.files raised {raised(error)}") from error
    if base is None and (images or labels):
        with suppress(ValueError):  # they are on several drives
            base = os.path.commonpath([os.path.dirname(path) for path in (*images, *labels)])
    listed = [[Listed(_relative(path, base), path, stamp(path)) for path in paths] for paths in (images, labels)]
    return ListedSplit(tuple(listed[0]), tuple(listed[1]), names, samples)


def _relative(path: str, base: str | None) -> str:
    """A path as it is recorded: relative to `base` if it is there, with `/`, and with other than UTF-8 escaped."""
    start = "" if base is None else base.rstrip(os.sep) + os.sep
    name = path.removeprefix(start).replace(os.sep, "/")
    return name if name.isascii() else name.encode(errors="backslashreplace").decode()


class Compared(NamedTuple):
    """The inputs of a run, and those that are there now."""

    before: Inputs | None  # as the run recorded them
    now: Inputs
    what: str  # the difference in words; empty without one, and if the run has not begun
    is_accepted: bool  # whether this difference has been accepted

    @property
    def is_refused(self) -> bool:
        """Whether the run may not be used without the user's word."""
        return bool(self.what) and not self.is_accepted


def has_begun(run_dir: Path) -> bool:
    """Whether a run has begun to train in this directory, in this version or an older one."""
    return (run_dir / "recipe.yaml").is_file()


def compare(run_dir: Path, found: Found, waiting: Callable[[], None], *, quiet: bool = True) -> Compared:
    """Compare what is there now with what a run recorded; the other arguments are those of `Found.recorded`."""
    before = read_inputs(run_dir) if has_inputs(run_dir) else None
    now = found.recorded(before, waiting, quiet=quiet)
    if before is None:
        return Compared(None, now, WAS_NOT_RECORDED if has_begun(run_dir) else "", False)
    known = {entry.inputs for entry in before.accepted}
    return Compared(before, now, differences(before, now), now.digest in known)


def accepted(inputs: Inputs, what: str, now: Inputs) -> Inputs:
    """The inputs with one more accepted difference: that `now` was there."""
    return inputs.model_copy(update={"accepted": (*inputs.accepted, Accepted(what=what, inputs=now.digest))})


def in_result(inputs: Inputs) -> runs.ResultInputs:
    """What `result.json` keeps of the inputs."""
    marks = [runs.NOT_RECORDED if entry.what == WAS_NOT_RECORDED else entry.what for entry in inputs.accepted]
    if inputs.changed:
        files = "file" if len(inputs.changed) == 1 else "files"
        marks.append(f"{len(inputs.changed)} {files} changed while it trained, first {inputs.changed[0]}")
    known = runs.NOT_RECORDED not in marks
    train, val = (inputs.splits[name].digest if known else "" for name in IN_RESULT)
    return runs.ResultInputs(train, val, inputs.revision, tuple(marks))
