"""The files that a recipe names, as they were when it was read: the code in full, of all others the SHA-256.

The code of `file.py` includes the modules beside it that it imports, found in its text: nothing runs here.
"""

import ast
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kd.errors import RecipeError
from kd.files.fingerprint import sha256, stamp
from kd.files.reading import MAX_TEXT, read_bytes

WEIGHTS = "student.safetensors"  # in a run directory
PRETRAINED = "config.json"  # in a folder of transformers
MAX_MODULES = 200  # of one component
MAX_FILE = 100_000_000_000  # bytes of a file that counts by its content: every command reads it
_NOT_BESIDE = {*sys.stdlib_module_names, "kd", "teachers", "students", "torch", "torchvision", "numpy"}


@dataclass(frozen=True)
class Code:
    """A Python file with the modules beside it that it imports, directly or not.

    Attributes:
        file: the file, absolute.
        modules: its content and theirs, by path in the file's folder: `nets.py`, `parts/head.py`.
    """

    file: Path
    modules: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """The SHA-256 of the content, in hex digits; of a single file, the file's own."""
        own, *others = [self.file.name, *sorted(self.modules.keys() - {self.file.name})]
        digests = {name: hashlib.sha256(self.modules[name]).hexdigest() for name in (own, *others)}
        if not others:
            return digests[own]
        listed = "".join(f"{'' if name == own else name} {digest}\n" for name, digest in digests.items())
        return hashlib.sha256(listed.encode()).hexdigest()


@dataclass(frozen=True)
class Sources:
    """The files that a recipe names, each by its name in the recipe.

    Attributes:
        code: of `file.py:Name`, by `file.py`.
        files: the SHA-256 of weights and class maps, in hex digits.
        of_run: whether they are those of a run that was trained, else of a recipe that has just been read.
    """

    code: Mapping[str, Code] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    of_run: bool = False

    def component(self, text: str) -> str:
        """A component's path, with the SHA-256 of its code in place of its file."""
        file, colon, name = text.rpartition(":")
        return f"{self.code[file].digest}:{name}" if colon and file in self.code else text

    def content(self, text: str) -> str:
        """A text of the recipe; if it names a file, the SHA-256 of the file."""
        return f"sha256:{self.files[text]}" if text in self.files else text

    def check(self, text: str) -> None:
        """Check that a file is still as it was when the recipe was read; a text that names none is right.

        Raises:
            RecipeError: the file has changed, or is gone.
        """
        before = self.files.get(text)
        if before is None:
            return
        now = digest_of(text, is_file=True)
        if now != before:
            became = "is gone" if now is None else f"has changed ({before[:8]}, now {now[:8]})"
            since, other = ("the run was trained", "train") if self.of_run else ("the recipe was read", "run")
            raise RecipeError(f"{text}: {became} since {since}; restore it, or {other} the recipe again")


def digest_of(text: str, *, is_file: bool = False) -> str | None:
    """The SHA-256 of what a text names; None if it names nothing of the following.

    A file with a suffix; a run directory, by its weights; a folder that `save_pretrained` of transformers wrote, by its
    JSON files and weights.

    Args:
        text: of a recipe.
        is_file: whether it can only be the name of a file, which then counts without a suffix too.

    Raises:
        RecipeError: it cannot be read, or is larger than `MAX_FILE`.
    """
    path = Path(text)
    places = (path, path / WEIGHTS)
    found = next((file for file in places if (file.suffix or is_file) and stamp(file) is not None), None)
    try:
        if found is None and stamp(path / PRETRAINED) is not None:
            files = sorted(file for file in path.iterdir() if file.suffix in (".json", ".safetensors"))
            listed = "".join(f"{file.name} {_bounded_sha256(file)}\n" for file in files if stamp(file) is not None)
            return hashlib.sha256(listed.encode()).hexdigest()
        return None if found is None else _bounded_sha256(found)
    except OSError as error:
        raise RecipeError(f"{found or path}: cannot be read ({error.strerror})") from None


def _bounded_sha256(file: Path) -> str:
    found = stamp(file)
    if found is not None and found.size > MAX_FILE:
        raise RecipeError(f"{file}: larger than {MAX_FILE:,} bytes, the limit for a file that a recipe names")
    return sha256(file)


def read_code(file: Path) -> Code:
    """Read a Python file and the modules beside it that it imports.

    Raises:
        RecipeError: one of them cannot be read; there are more than `MAX_MODULES`.
    """
    file = Path(os.path.abspath(file))
    modules: dict[str, bytes] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(file.parent).as_posix()
        if name in modules:
            continue
        if len(modules) == MAX_MODULES:
            raise RecipeError(f"{file}: imports more than {MAX_MODULES} files beside it; make them a package")
        modules[name] = read_bytes(path, "a Python file", RecipeError, limit=4 * MAX_TEXT)
        waiting += _imported(modules[name], path, file.parent)
    return Code(file, modules)


def beside(folder: Path, module: str, *, relative: bool = False) -> Path | None:
    """The file of a module `a` or `a.b` in a folder, if it has one; `import random` means Python's, if not relative."""
    if not relative and module.partition(".")[0] in _NOT_BESIDE:
        return None
    path = folder.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_name(f"{path.name}.py")) if file.is_file()), None)


def is_folder(folder: Path, module: str) -> bool:
    """Whether a module `a` is a folder in a folder, with or without `__init__.py`."""
    return module not in _NOT_BESIDE and os.path.isdir(folder / module)


def _imported(content: bytes, path: Path, folder: Path) -> Iterator[Path]:
    """The files in a folder that a module imports, with the packages around them; none if it is not valid Python."""
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # reported when the component is imported
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            names, base, relative = [alias.name for alias in node.names], folder, False
        elif isinstance(node, ast.ImportFrom):
            inner = [alias.name for alias in node.names]
            names = [f"{node.module}.{name}" for name in inner] if node.module else inner
            relative = node.level > 0
            base = path.parents[node.level - 1] if 0 < node.level <= len(path.parents) else folder
        else:
            continue
        for name in names if base.is_relative_to(folder) else ():
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                if (found := beside(base, ".".join(parts[:depth]), relative=relative)) is not None:
                    yield found
