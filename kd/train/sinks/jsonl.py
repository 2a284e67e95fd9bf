"""`metrics.jsonl`: the numbers of a run, one line per report."""

import json
import os
import warnings
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

from kd.errors import StorageError
from kd.files.storage import write_atomic
from kd.runs import read_metrics

FINAL = {"final/miou", "final/agreement"}


class JsonLines:
    """`metrics.jsonl`: the source of truth for curves.

    Lines after the step from which the run resumes are removed; so is a final score, which follows the last checkpoint.

    Args:
        run_dir: the run directory.
        step: where the run starts or resumes.
    """

    def __init__(self, run_dir: Path, step: int) -> None:
        kept = [line for line in read_metrics(run_dir) if line["step"] <= step and FINAL.isdisjoint(line)]
        self._path = run_dir / "metrics.jsonl"
        self._unwritten = "".join(json.dumps(line) + "\n" for line in kept).encode()
        self._file: FileIO | None = None
        self._warned = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        # without times, so that a resumed run's file equals that of an uninterrupted run
        kept = {name: value for name, value in values.items() if not name.startswith("speed/")}
        if not kept:
            return
        self._unwritten += (json.dumps({"step": step} | kept) + "\n").encode()
        try:
            self._write()
        except (OSError, StorageError) as error:  # a disk that is full for an hour must not leave a gap in the curves
            if not self._warned:
                warnings.warn(f"metrics.jsonl: {error}; its lines are kept and written later", stacklevel=2)
            self._warned = True

    def _write(self) -> None:
        """Write the unwritten lines; after an error, continue where the last write stopped."""
        if self._file is None:
            write_atomic(self._path, self._unwritten)
            self._unwritten, self._file = b"", self._path.open("ab", buffering=0)
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    def close(self) -> None:
        self._write()
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._file.close()
