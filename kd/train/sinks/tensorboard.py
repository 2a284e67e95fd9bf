"""TensorBoard."""

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary


class TensorBoard:
    """TensorBoard scalars, pictures and, with the final score, hparams; steps after the resumed one are replaced.

    Every report is written before the next one: TensorBoard's own writer has a thread, whose traceback on a full disk
    nothing catches.

    Args:
        folder: of the file; TensorBoard names the curves by its path.
        step: where the run starts or resumes.
        config: the resolved recipe and the seed, as plain data.
    """

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{platform.node()}.{os.getpid()}"  # read in the order of names
        self._file = _Unbuffered(folder / name)
        self._writer = RecordWriter(self._file)
        self._config = config
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))  # hides what is after it

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        final = {name: value for name, value in values.items() if name.startswith("final/")}
        if final:
            for content in summary.hparams(dict(_leaves(self._config)), final):  # type: ignore[no-untyped-call]
                self._write(Event(summary=content))
        for name, value in values.items():
            self._write(Event(step=step, summary=summary.scalar(name, value)))  # type: ignore[no-untyped-call]

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        drawn = summary.image(name, picture, dataformats="HWC")  # type: ignore[no-untyped-call]
        self._write(Event(step=step, summary=drawn))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())


class _Unbuffered:
    """A new file that keeps nothing back: a write that fails is not tried again when the file is closed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self.close = self._file.close

    def write(self, data: bytes) -> None:
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError:
            self.close()
            raise


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, str | float]]:
    """The values of plain data by their dotted paths; nulls are left out."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif tree is not None:
        yield path, tree if isinstance(tree, (str, int, float)) else json.dumps(tree)
