"""Folders of another user, into which nobody else may look; root may look into all, so that modes cannot make them."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def make_private(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Refuse to list these folders, and to look up, open or write anything below them, as the mode 0700 does."""
    closed = [os.path.abspath(folder) for folder in folders]

    def refuse(path: Any, *, listed: bool = False) -> None:
        if isinstance(path, (str, os.PathLike)):
            name = os.path.abspath(path)
            if any(name.startswith(folder + os.sep) or (listed and name == folder) for folder in closed):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))

    def guarded(function: Any, *, lists: bool) -> Any:
        def call(path: Any = ".", *arguments: Any, **named: Any) -> Any:
            refuse(path, listed=lists)
            return function(path, *arguments, **named)

        return call

    for name in ("stat", "lstat", "open", "mkdir", "scandir", "listdir"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name), lists=name in ("scandir", "listdir")))
