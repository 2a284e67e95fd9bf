"""Checkpoints that survive a crash: written whole, named by their own hash, verified before they are loaded.

checkpoints/step-<n>-<8 hex of SHA-256>.pt     the newest two and the best
checkpoints/index.jsonl                        one line a save: step, file, metric, best
"""

import hashlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import torch

from kd.runs import StorageError, write_atomic

_NAME = re.compile(r"step-(\d+)-([0-9a-f]{8})\.pt")


class NoCheckpointError(ValueError):
    """Checkpoints exist, and none of them is whole (exit status 5)."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: made at the first save.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: dict[str, Any], *, step: int, best: bool) -> Path:
        """Write a checkpoint, then remove those that are neither among the newest two nor the best.

        Args:
            state: tensors, numbers, strings, and lists and dicts of them: what `weights_only` loads.
            step: optimizer updates made.
            best: whether this is the best one so far.

        Raises:
            StorageError: it cannot be written; the older ones are as they were.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
        path = self.folder / f"step-{step}-{hashlib.sha256(data).hexdigest()[:8]}.pt"
        write_atomic(path, data)
        if best:
            write_atomic(self.folder / "index.jsonl", (json.dumps({"best": path.name}) + "\n").encode())
        self._prune()
        return path

    def newest(self) -> tuple[dict[str, Any], list[str]] | None:
        """The newest whole checkpoint, and a line for every damaged one that was passed over; None without any.

        Raises:
            NoCheckpointError: there are files, and all are damaged.
        """
        self._sweep()
        complaints: list[str] = []
        for path in self._files():
            try:
                return read_checkpoint(path), complaints
            except StorageError as error:
                complaints.append(str(error))
        if complaints:
            raise NoCheckpointError(
                f"{self.folder}: no valid checkpoint among {len(complaints)}: {'; '.join(complaints)}; "
                "start over with --fresh"
            )
        return None

    def best(self) -> Path | None:
        """The file of the best checkpoint, if one was marked."""
        index = self.folder / "index.jsonl"
        if not index.is_file():
            return None
        path = self.folder / str(json.loads(index.read_text(encoding="utf-8").splitlines()[-1])["best"])
        return path if path.is_file() else None

    def _files(self) -> list[Path]:
        """Newest first."""
        named = [(_NAME.fullmatch(path.name), path) for path in self.folder.glob("step-*.pt")]
        found = [(int(match[1]), path.stat().st_mtime_ns, path) for match, path in named if match]
        return [path for *_, path in sorted(found, reverse=True)]

    def _prune(self) -> None:
        keep = {*self._files()[:2], self.best()}
        for path in self._files():
            if path not in keep:
                path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what a killed save left behind; the run's lock keeps living ones away."""
        for path in self.folder.glob(".tmp-*"):
            path.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load one checkpoint after checking it against the hash in its name.

    Raises:
        StorageError: it cannot be read, or it is not the file that was written.
    """
    match = _NAME.fullmatch(path.name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({os.strerror(error.errno or 0)})") from None
    digest = hashlib.sha256(data).hexdigest()[:8]
    if match is None or digest != match[2]:
        raise StorageError(f"{path}: damaged (its SHA-256 begins {digest}, its name says {match and match[2]})")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # a crafted pickle raises anything, and never gets a second chance
        raise StorageError(f"{path}: not a checkpoint of kd ({type(error).__name__})") from None
    return state
