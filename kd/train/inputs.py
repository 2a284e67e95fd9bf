"""What a run reads: listed when it starts, compared with what it read before, hashed while it trains."""

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from kd import runs
from kd.constants import RESULTS_REVISION
from kd.data.dataset import component_name
from kd.data.loader import WITHOUT_LABELS, order
from kd.errors import DataError, raised
from kd.fingerprint import sha256, stamp
from kd.inputs import (
    NOT_RECORDED,
    Accepted,
    InputFile,
    Inputs,
    Listed,
    SplitInputs,
    TeacherInputs,
    differences,
    has_inputs,
    hashed,
    read_inputs,
    write_copies,
    write_inputs,
)
from kd.recipe import Recipe
from kd.recipe.sources import digest_of
from kd.types import SegmentationDataset

PAUSE = 0.2  # seconds between two looks at what has been read

Split = Literal["train", "val", "unlabelled"]
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

    def recorded(self, before: Inputs | None, interrupt: Callable[[], None]) -> Inputs:
        """The record of it, with the hashes that were recorded `before` where the stamps are the same."""
        known = {} if before is None else before.splits
        splits: dict[Split, SplitInputs] = {}
        for name, split in self.splits.items():
            of_split = known.get(name)
            try:
                images = hashed(split.images, of_split.images if of_split else (), all_files=False, interrupt=interrupt)
                labels = hashed(split.labels, of_split.labels if of_split else (), interrupt=interrupt)
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
    return name.encode(errors="backslashreplace").decode()


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


def compare(run_dir: Path, found: Found, interrupt: Callable[[], None]) -> Compared:
    """Compare what is there now with what a run recorded."""
    before = read_inputs(run_dir) if has_inputs(run_dir) else None
    now = found.recorded(before, interrupt)
    if before is None:
        return Compared(None, now, NOT_RECORDED if has_begun(run_dir) else "", False)
    known = {entry.inputs for entry in before.accepted}
    return Compared(before, now, differences(before, now), now.digest in known)


def accepted(inputs: Inputs, what: str, now: Inputs) -> Inputs:
    """The inputs with one more accepted difference: that `now` was there."""
    return inputs.model_copy(update={"accepted": (*inputs.accepted, Accepted(what=what, inputs=now.digest))})


def in_result(inputs: Inputs) -> runs.ResultInputs:
    """What `result.json` keeps of the inputs."""
    marks = [runs.NOT_RECORDED if entry.what == NOT_RECORDED else entry.what for entry in inputs.accepted]
    if inputs.changed:
        files = "file" if len(inputs.changed) == 1 else "files"
        marks.append(f"{len(inputs.changed)} {files} changed while it trained, first {inputs.changed[0]}")
    known = runs.NOT_RECORDED not in marks
    train, val = (inputs.splits[name].digest if known else "" for name in IN_RESULT)
    return runs.ResultInputs(train, val, inputs.revision, tuple(marks))


class Record:
    """Keeps the record of a run's inputs: hashes images in the background once training has read them.

    Validation images are hashed from the start, training images of the first epoch after their step. One process of a
    run has a record; the step alone tells which images all processes have read.

    Args:
        run_dir: locked by this process.
        inputs: as they are recorded so far.
        found: what the run reads.
        seed: of the stream of images.
    """

    def __init__(self, run_dir: Path, inputs: Inputs, found: Found, *, seed: int) -> None:
        self.run_dir, self.inputs = run_dir, inputs
        self._found = found
        recipe = found.recipe
        self._per_step: dict[Split, int] = {"train": recipe.train.batch_size, "unlabelled": recipe.unlabelled_size}
        self._waiting: dict[Split, list[int]] = {}  # the images in the order in which they are read
        for name, split in found.splits.items():
            images: Sequence[int] = range(len(split.images))
            if images and name in self._per_step:
                purpose = (WITHOUT_LABELS,) if name == "unlabelled" else ()
                images = order(seed, 0, split.samples, *purpose).tolist()
            self._waiting[name] = list(images)
        self._next: dict[Split, int] = dict.fromkeys(self._waiting, 0)
        self._rows: dict[Split, list[InputFile]] = {name: list(split.images) for name, split in inputs.splits.items()}
        self._changed = dict.fromkeys(inputs.changed)
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._unwritten = False

    def write(self) -> None:
        """Write the record and the copies of the recipe's code."""
        code = {str(code.file): dict(code.modules) for code in self._found.recipe.sources.code.values()}
        copies = write_copies(self.run_dir, code)
        self.inputs = self.inputs.model_copy(update={"code": copies})
        write_inputs(self.run_dir, self.inputs)

    def follow(self, step: Callable[[], int]) -> None:
        """Hash in the background what has been read at `step()`; until `close`."""

        def work() -> None:
            while not self._ended.wait(PAUSE):
                while not self._ended.is_set() and self._hash_next(step()):
                    pass

        threading.Thread(target=work, name="kd-inputs", daemon=True).start()

    def save(self, step: int) -> None:
        """Hash all that has been read at a step and write the record, if it has changed: before a checkpoint.

        Raises:
            StorageError: it cannot be written.
        """
        while self._hash_next(step):
            pass
        if self._unwritten:
            self._write_rows()

    def finish(self, step: int) -> Inputs:
        """The record of a run that has ended, after a last look for files that have changed."""
        while self._hash_next(step):
            pass
        self.close()
        for name, split in self._found.splits.items():
            for listed, row in zip((*split.images, *split.labels), self._files(name), strict=True):
                if row.sha256 is not None and stamp(listed.path) != listed.stamp and _hash(listed.path) != row.sha256:
                    self._changed[f"{name}/{row.name}"] = None
        self._write_rows()
        return self.inputs

    def close(self) -> None:
        """Stop hashing."""
        self._ended.set()

    def _files(self, name: Split) -> list[InputFile]:
        return [*self._rows[name], *self.inputs.splits[name].labels]

    def _hash_next(self, step: int) -> bool:
        """Hash the next image that has been read and not hashed; whether there was one."""
        with self._lock:
            for name, waiting in self._waiting.items():
                read = step * self._per_step[name] if name in self._per_step else len(waiting)
                while self._next[name] < min(read, len(waiting)):
                    index = waiting[self._next[name]]
                    self._next[name] += 1
                    if self._rows[name][index].sha256 is None:
                        self._hash(name, index)
                        return True
        return False

    def _hash(self, name: Split, index: int) -> None:
        listed, row = self._found.splits[name].images[index], self._rows[name][index]
        digest = _hash(listed.path)
        if digest is None or stamp(listed.path) != listed.stamp:
            self._changed[f"{name}/{row.name}"] = None  # which content was read is unknown
        self._rows[name][index] = row._replace(sha256=digest)
        self._unwritten = True

    def _write_rows(self) -> None:
        with self._lock:
            splits = {
                name: split.model_copy(update={"images": tuple(self._rows[name])})
                for name, split in self.inputs.splits.items()
            }
            unread = [f"{split.unread} {name}" for name, split in splits.items() if split.unread]
            note = f"not read, known by size and time only: {' and '.join(unread)} images" if unread else ""
            update = {"splits": splits, "changed": tuple(self._changed), "note": note}
            self.inputs = self.inputs.model_copy(update=update)
            self._unwritten = False
        write_inputs(self.run_dir, self.inputs)


def _hash(path: str) -> str | None:
    """The SHA-256 of a file; None if it cannot be read any more."""
    try:
        return sha256(path)
    except OSError:
        return None
