"""What identifies a file's content: its SHA-256, and the stamp that shows cheaply whether it may have changed."""

import hashlib
import os
import time
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

_SMALL = 1 << 16  # bytes
_SETTLED = 1_000_000_000  # nanoseconds: a file that changed later may change again without another stamp

_known: dict[tuple[str, "Stamp"], str] = {}  # absolute path and stamp -> SHA-256, for this process


class Stamp(NamedTuple):
    """Size in bytes, times of the last change of content and of anything, in nanoseconds, and the inode's number."""

    size: int
    mtime: int
    ctime: int
    inode: int


def stamp(path: str | Path) -> Stamp | None:
    """The stamp of a regular file; None for anything else, and for a path that does not exist."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    if not S_ISREG(status.st_mode):
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def is_settled(found: Stamp) -> bool:
    """Whether a file with this stamp changed long enough ago: any later change gives it another stamp."""
    return time.time_ns() - max(found.mtime, found.ctime) > _SETTLED


def sha256(path: str | Path) -> str:
    """The SHA-256 of a regular file in hex digits; read once a process while its stamp stays the same.

    Raises:
        OSError: it cannot be read.
    """
    found = stamp(path)
    key = None if found is None else (os.path.abspath(path), found)
    if key in _known:
        return _known[key]
    if found is None and os.path.exists(path):
        raise OSError(f"{path}: not a regular file")
    with open(path, "rb", buffering=0) as file:
        start = file.read(_SMALL)
        content = hashlib.sha256(start)
        if found is None or found.size != len(start):  # `file_digest` makes a large buffer: small files go without
            hashlib.file_digest(file, lambda: content)
        digest = content.hexdigest()
    if key is not None and is_settled(key[1]):
        _known[key] = digest
    return digest
