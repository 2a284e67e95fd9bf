"""Checkpoints that survive a crash: written atomically, named by their hash, verified before they are loaded.

checkpoints/step-<n>-<8 hex of SHA-256>.pt     the newest two and the best
checkpoints/index.jsonl                        names the best: the last line whose file exists
"""

import hashlib
import io
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kd.errors import NoCheckpointError, StorageError
from kd.files.reading import read_bytes
from kd.files.storage import sweep, write_atomic

_NAME = re.compile(r"step-(\d+)-([0-9a-f]{8})\.pt")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: created by the first save.
        run: the id and seed of the run, which its checkpoints state; one that states another run is not loaded.
    """

    def __init__(self, folder: Path, run: str = "") -> None:
        self.folder, self.run = folder, run

    def save(self, state: dict[str, Any], *, step: int, best: bool) -> Path:
        """Write a checkpoint, then remove those that are neither among the newest two nor the best.

        Args:
            state: tensors, numbers, strings, and lists and dicts of them, as `weights_only` loads.
            step: number of optimizer updates so far.
            best: whether this is the best checkpoint so far.

        Raises:
            StorageError: the checkpoint cannot be written; the older ones are unchanged.
        """
        buffer = io.BytesIO()
        torch.save(state | {"run": self.run}, buffer)
        data = buffer.getbuffer()
        path = self.folder / f"step-{step}-{hashlib.sha256(data).hexdigest()[:8]}.pt"
        if best:  # named before it exists: a kill between the two writes leaves the previous best
            self._write_index([*self._bests(), path.name])
        write_atomic(path, data)
        self._prune()
        return path

    def newest(self) -> tuple[dict[str, Any], list[str]] | None:
        """The newest valid checkpoint, and a line for every damaged one that is newer; None without checkpoints.

        Raises:
            NoCheckpointError: all files are damaged.
        """
        sweep(self.folder)
        complaints: list[str] = []
        for path in self._files():
            try:
                state = self.read(path)
                self._name_best(state.get("best"))
                return state, complaints
            except StorageError as error:
                complaints.append(str(error))
        if complaints:
            raise NoCheckpointError(
                f"{self.folder}: no valid checkpoint among {len(complaints)}: {'; '.join(complaints)}; "
                "start over with --fresh"
            )
        return None

    def read(self, path: Path) -> dict[str, Any]:
        """Load one checkpoint of this run.

        Raises:
            StorageError: the file cannot be read, is not the one that was written, or is of another run.
        """
        state = read_checkpoint(path)
        if state.get("run", self.run) != self.run:  # checkpoints of kd 0.2 state none
            raise StorageError(f"{path}: of run {state['run']}, not of run {self.run}")
        return state

    def reached(self) -> int:
        """The step of the newest checkpoint, valid or not; 0 without checkpoints."""
        files = self._files()
        match = _NAME.fullmatch(files[0].name) if files else None
        return int(match[1]) if match else 0

    def best(self) -> Path | None:
        """The file of the best checkpoint, if there is one."""
        names = self._bests()
        return self.folder / names[-1] if names else None

    def _name_best(self, best: dict[str, float] | None) -> None:
        """Name the best in a damaged index again, by the step that a checkpoint remembers."""
        named = self.best()
        if best is None or (named is not None and named.name.startswith(f"step-{best['step']}-")):
            return
        files = [path.name for path in self.folder.glob(f"step-{best['step']}-*.pt") if _NAME.fullmatch(path.name)]
        if files:
            self._write_index([*self._bests(), files[0]])

    def _write_index(self, names: Sequence[str]) -> None:
        write_atomic(self._index, "".join(json.dumps({"best": name}) + "\n" for name in names).encode())

    def remove(self) -> None:
        """Remove all checkpoints; `kd clean` removes what cannot be removed now."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _index(self) -> Path:
        return self.folder / "index.jsonl"

    def _bests(self) -> list[str]:
        """The existing files that were the best at some time, the newest last; damaged lines are ignored."""
        data = b""
        if self._index.is_file():
            data = read_bytes(self._index, "a list of checkpoints", StorageError, inside=self.folder)
        text = data.decode(errors="replace")
        names = re.findall(rf'^{{"best": "({_NAME.pattern})"}}$', text, re.MULTILINE)
        return [name for name, *_ in names if (self.folder / name).is_file()]

    def _files(self) -> list[Path]:
        """Newest first."""
        matches = [(_NAME.fullmatch(path.name), path) for path in self.folder.glob("step-*.pt")]
        files = [(int(match[1]), path.stat().st_mtime_ns, path) for match, path in matches if match]
        return [path for *_, path in sorted(files, reverse=True)]

    def _prune(self) -> None:
        keep = {*self._files()[:2], self.best()}
        for path in self._files():
            if path not in keep:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise StorageError(f"{path}: cannot be removed ({error.strerror})") from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load one checkpoint after verifying the hash in its name.

    Raises:
        StorageError: the file cannot be read, or is not the one that was written.
    """
    match = _NAME.fullmatch(path.name)
    data = read_bytes(path, "a checkpoint", StorageError, limit=sys.maxsize, inside=path.parent)
    digest = hashlib.sha256(data).hexdigest()[:8]
    if match is None or digest != match[2]:
        raise StorageError(f"{path}: damaged (its SHA-256 begins with {digest}, its name has {match and match[2]})")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # a crafted pickle may raise anything
        raise StorageError(f"{path}: not a checkpoint of kd ({type(error).__name__})") from None
    if not _has_step(state) or not (state.get("best") is None or _has_step(state["best"])):
        raise StorageError(f"{path}: not a checkpoint of kd (it has no step)")
    return state


def _has_step(value: Any) -> bool:
    return isinstance(value, dict) and type(value.get("step")) is int
