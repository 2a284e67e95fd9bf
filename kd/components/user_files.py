"""Modules from `file.py`, importable in every process, so that a user's dataset can be pickled to workers.

A module is imported from a copy of its code as it was when the recipe was read: editing the file while a run trains
changes nothing. The copies of a process are in a temporary folder; `__file__` and messages name the original.

A class is pickled by its module's name, and a fresh process (`spawn`, `forkserver`) imports that name. Therefore the
name contains the copy's path: `kd.components.user_files.<folder>.<module>`, with dots and percent signs written as %2E
and %25. Importing it imports this module first, which installs the finder that reads the name; a new process needs no
set-up. A file beside `file.py` is a module in that folder: `import a` there means `from . import a`.
"""

import ast
import atexit
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from kd.recipe.sources import Code, beside, is_folder, read_code

__path__: list[str] = []  # makes this module a package: its submodules are copies of files

_ORIGIN = ".origin"  # in a folder of copies: the folder of the originals
_copies: dict[Path, list[Path]] = {}  # the folder of originals -> folders of copies, one for each state of the files


def importable(code: Code | str | Path) -> str:
    """The name under which a Python file is imported, the same in every process.

    Args:
        code: of the file; or a `.py` file, which is read now.

    Returns:
        A name for `importlib.import_module`; the file's folder is not added to the import path.
    """
    code = code if isinstance(code, Code) else read_code(Path(code))
    return ".".join((__name__, _encoded(str(_copied(code))), _encoded(code.file.stem)))


def load(code: Code | str | Path) -> ModuleType:
    """The module of a file; the same content runs once in a process.

    Raises:
        Exception: whatever the file raises.
    """
    return importlib.import_module(importable(code))


def _copied(code: Code) -> Path:
    """The folder with the copies of these modules, among copies of others from the same folder."""
    folder = code.file.parent.resolve()
    known = _copies.setdefault(folder, [])
    for copies in known:
        present = {name: copies / name for name in code.modules if (copies / name).is_file()}
        if all(path.read_bytes() == code.modules[name] for name, path in present.items()):
            break
    else:
        copies = Path(tempfile.mkdtemp(prefix="kd-code-")).resolve()
        atexit.register(_remove, copies, os.getpid())
        (copies / _ORIGIN).write_text(str(folder), encoding="utf-8")
        known.append(copies)
        present = {}
    for name in code.modules.keys() - present.keys():
        (copies / name).parent.mkdir(parents=True, exist_ok=True)
        (copies / name).write_bytes(code.modules[name])
    return copies


def _remove(folder: Path, process: int) -> None:
    """Remove copies when the process that made them ends, but not when one forked from it does."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _encoded(text: str) -> str:
    return text.replace("%", "%25").replace(".", "%2E")


def _decoded(text: str) -> str:
    return text.replace("%2E", ".").replace("%25", "%")


class _Finder:
    """Finds the modules that `importable` names, and those beside them."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(f"{__name__}."):
            return None
        parent, _, last = name.rpartition(".")
        if parent == __name__:
            return _folder_spec(name, Path(_decoded(last)))
        package = Path(*(path or [""])[:1], _decoded(last))
        is_package = (package / "__init__.py").is_file()
        file = package / "__init__.py" if is_package else package.with_name(f"{package.name}.py")
        if not file.is_file():
            return _folder_spec(name, package) if package.is_dir() else None
        return spec_from_file_location(
            name,
            _original(file),
            loader=_Loader(name, str(file)),
            submodule_search_locations=[str(package)] if is_package else None,
        )


def _folder_spec(name: str, folder: Path) -> ModuleSpec:
    """Of a folder without `__init__.py`: a namespace package, as in Python."""
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


class _Loader(SourceFileLoader):
    """Runs a copy of a module under the name of its original, and writes no bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        file = Path(self.path)
        original = str(_original(file))
        tree = _Siblings(file).visit(ast.parse(file.read_bytes(), original))
        code: CodeType = compile(tree, original, "exec", dont_inherit=True)
        return code

    def get_filename(self, name: str | None = None) -> str:
        return str(_original(Path(self.path)))


class _Siblings(ast.NodeTransformer):
    """Turns the imports of modules that are copied beside a module into relative ones."""

    def __init__(self, file: Path) -> None:
        self.root = _root(file)
        self.level = len(file.relative_to(self.root).parts)

    def _is_beside(self, module: str) -> bool:
        return beside(self.root, module) is not None or is_folder(self.root, module)

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for alias in node.names:
            parent, _, last = alias.name.rpartition(".")
            first = alias.name.partition(".")[0]
            if not self._is_beside(first):
                statements.append(ast.Import([alias]))
            elif alias.asname or not parent:
                statements.append(ast.ImportFrom(parent or None, [ast.alias(last, alias.asname)], self.level))
            else:  # `import a.b` imports a.b and binds a
                statements.append(ast.ImportFrom(parent, [ast.alias(last, f"_{last}_of_{first}")], self.level))
                statements.append(ast.ImportFrom(None, [ast.alias(first)], self.level))
        return [ast.fix_missing_locations(ast.copy_location(statement, node)) for statement in statements]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.level == 0 and node.module and self._is_beside(node.module.partition(".")[0]):
            node.level = self.level
        return node


def _root(file: Path) -> Path:
    """The folder of copies that a copy is in."""
    return next(folder for folder in file.parents if (folder / _ORIGIN).is_file())


def _original(file: Path) -> Path:
    """The file that a copy is of."""
    root = _root(file)
    return Path((root / _ORIGIN).read_text(encoding="utf-8"), file.relative_to(root))


sys.meta_path.insert(0, _Finder)
