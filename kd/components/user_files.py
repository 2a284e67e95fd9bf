"""Modules from `file.py`, importable in every process, so that a user's dataset can be pickled to workers.

A class is pickled by its module's name, and a fresh process (`spawn`, `forkserver`) imports that name. Therefore the
name contains the file's path: `kd.components.user_files.<path>`, with dots and percent signs written as %2E and %25.
Importing it imports this module first, which installs the finder that reads the name; a new process needs no set-up.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

__path__: list[str] = []  # makes this module a package: its submodules are files anywhere


def importable(file: str | Path) -> str:
    """The name under which a Python file is imported, the same in every process.

    Args:
        file: a `.py` file, anywhere.

    Returns:
        A name for `importlib.import_module`; the file's folder is not added to the import path.
    """
    path = str(Path(file).resolve())
    return f"{__name__}.{path.replace('%', '%25').replace('.', '%2E')}"


class _Finder:
    """Finds the modules that `importable` names."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(f"{__name__}."):
            return None
        file = name.removeprefix(f"{__name__}.").replace("%2E", ".").replace("%25", "%")
        return spec_from_file_location(name, file)


sys.meta_path.append(_Finder)


def load(file: str | Path) -> ModuleType:
    """The module in a file; the file runs once in a process.

    Raises:
        Exception: whatever the file raises.
    """
    return importlib.import_module(importable(file))
