"""The record of what a run reads, kept while it trains: images are hashed once training has read them."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from kd.data.loader import WITHOUT_LABELS, order
from kd.files.fingerprint import sha256, stamp
from kd.inputs import InputFile, Inputs, Split, write_copies, write_inputs
from kd.train.provenance.inputs import Found

PAUSE = 0.2  # seconds between two looks at what has been read


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
