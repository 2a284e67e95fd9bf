"""Atomic files: readers see the old content or the new, even if the writer is killed.

Only a regular file is replaced unasked. A new file in the place of a device such as `/dev/null`, or of the link
`/dev/stdout`, would take it from every other process of the machine.
"""

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE
from typing import Any

from kd.errors import StorageError
from kd.files.reading import special


def write_atomic(
    path: Path, data: bytes | memoryview, *, fix: str = "free space or choose --runs DIR", replaces_links: bool = False
) -> None:
    """Write a file atomically: temporary file, fsync, rename, fsync of the folder. The mode of an old file is kept.

    Args:
        path: the file; its folder is created.
        data: its content.
        fix: what the message advises where it cannot be written.
        replaces_links: whether the user has asked to replace what is there; what a link leads to is left alone.

    Raises:
        StorageError: the file cannot be written; or a link, a pipe or a device has its name.
    """
    if (kind := special(path)) and not (replaces_links and path.is_symlink()):
        raise StorageError(f"{path}: {kind}, and kd writes regular files only; {fix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".tmp-{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:  # with the mode that the umask gives a new file
                if path.is_file() and not path.is_symlink():
                    os.chmod(temporary, S_IMODE(path.stat().st_mode))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}); {fix}") from error


def _sync_folder(folder: Path) -> None:
    """Make the folder's new entry survive a power cut."""
    if os.name == "nt":  # Windows does not open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove the temporary files of killed writers in a folder; the caller has locked the run: nobody else writes."""
    for path in folder.glob(".tmp-*"):
        with suppress(OSError):  # what cannot be removed, such as a folder of this name, does no harm
            path.unlink()


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, atomically."""
    write_atomic(path, as_json(content))


def as_json(content: Any) -> bytes:
    """The content of a JSON file."""
    return (json.dumps(content, indent=1) + "\n").encode()
