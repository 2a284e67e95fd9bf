"""The files of an export, listed once: annotations name images, and only names in this list are ever opened."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

from kd.data.images.decode import SUFFIXES
from kd.errors import DataError

MAX_FILES = 2_000_000
WRITTEN = "recipe.schema.json"  # a folder that holds it is the result of kd init, not an export
MAX_DEPTH = 8  # of folders in folders
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
_SPLITS |= {"test": "test", "testing": "test"}
_SPLITS |= {"imagestr": "train", "labelstr": "train", "imagests": "test", "labelsts": "test"}  # nnU-Net's


class Tree(NamedTuple):
    """The files below a folder."""

    root: Path
    names: tuple[str, ...]  # relative, with `/`, sorted
    left_out: int = 0  # links that lead out of the folder, or in a circle

    def named(self, *suffixes: str) -> list[str]:
        """The files with one of these suffixes, given in lower case."""
        return [name for name in self.names if os.path.splitext(name)[1].lower() in suffixes]

    def folders(self) -> set[str]:
        """The folders that hold files, and those above them; "" is the root."""
        found = {""}
        for name in self.names:
            parts = name.split("/")[:-1]
            found.update("/".join(parts[: end + 1]) for end in range(len(parts)))
        return found

    def inside(self, folder: str) -> list[str]:
        """The files below a folder of the tree."""
        return [name for name in self.names if not folder or name.startswith(f"{folder}/")]


def list_tree(path: Path) -> Tree:
    """The files below a folder, hidden ones left out; of a single file, the folder that holds it with this file alone.

    Raises:
        DataError: there is no such folder or file; it is an archive; it holds more than `MAX_FILES` files.
    """
    if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        raise DataError(f"{path}: an archive; unpack it, and give kd init the folder")
    if path.is_file():
        return Tree(path.parent, (path.name,))
    if not path.is_dir():
        raise DataError(f"{path}: no such folder or file; give kd init the folder of an export")
    names: list[str] = []
    left_out = _collect(path, path.resolve(), "", names)
    return Tree(path, tuple(sorted(names)), left_out)


def _collect(folder: Path, root: Path, below: str, names: list[str], depth: int = MAX_DEPTH) -> int:
    left_out = 0
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        if below and any(entry.name == WRITTEN for entry in entries):  # by an earlier kd init
            return 0
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_symlink() and _leads_out(Path(entry.path), root):
                left_out += 1
            elif entry.is_dir(follow_symlinks=False):
                if depth:
                    left_out += _collect(Path(entry.path), root, f"{below}{entry.name}/", names, depth - 1)
            elif entry.is_file():
                names.append(f"{below}{entry.name}")
            if len(names) > MAX_FILES:
                raise DataError(f"{folder}: more than {MAX_FILES:,} files; give kd init the folder of one export")
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return left_out


def _leads_out(link: Path, root: Path) -> bool:
    """Whether a link leads out of a folder, or in a circle."""
    try:
        return not link.resolve(strict=True).is_relative_to(root)
    except FileNotFoundError:
        return False
    except (OSError, RuntimeError):  # RuntimeError: Python's word for a circle
        return True


_KEYS: tuple[Callable[[str], str], ...] = (  # by what an image is looked up, the strictest first
    str,
    lambda last: os.path.splitext(last)[0],
    str.casefold,
    lambda last: os.path.splitext(last)[0].casefold(),
)
_UPLOADED = re.compile(r"[0-9a-f]{6,}-(?=.)")  # what Label Studio puts before the name of an uploaded file


def _readings(name: str) -> list[str]:
    """The paths that a name may mean: itself, what a URL asks for, and these without the mark of an upload."""
    path, _, query = name.partition("?")
    asked = unquote(query[2:].partition("&")[0] if query.startswith("d=") else path)  # ?d=…: a file served locally
    paths = [normalize("NFC", text.replace("\\", "/")) for text in (name, asked)]
    for text in tuple(paths):
        folders, slash, last = text.rpartition("/")
        if mark := _UPLOADED.match(last):
            paths.append(f"{folders}{slash}{last[mark.end() :]}")
    return list(dict.fromkeys(paths))


class Images:
    """The images of a tree, found by the names that annotations give them.

    A name is never used as a path: it selects the image whose path ends like it.

    Args:
        tree: the files.
        names: the images among them; None for all.
    """

    def __init__(self, tree: Tree, names: Iterable[str] | None = None) -> None:
        self.tree = tree
        self.names = tuple(tree.named(*SUFFIXES) if names is None else names)
        self._by: tuple[dict[str, list[str]], ...] = tuple(defaultdict(list) for _ in _KEYS)
        for name in self.names:
            last = normalize("NFC", name.rpartition("/")[2])
            for key, found in zip(_KEYS, self._by, strict=True):
                found[key(last)].append(name)

    def find(self, name: str, near: str = "") -> str | None:
        """The image that an annotation means, or None.

        Args:
            name: a file name, path or URL, of whatever system; without a suffix, the stem decides. Upper and lower case
                count only where both are there.
            near: the path of the annotation in the tree, which decides between images of one name.
        """
        tied = None
        for text in _readings(name):
            *folders, last = text.split("/")
            found = next((by[key] for by in self._by for key in (last, last.casefold()) if key in by), [])
            beside = set(near.split("/"))
            ranked = sorted(
                ((_ending(folders, f.split("/")[:-1]), len(beside & set(f.split("/"))), f) for f in found), reverse=True
            )
            if len(ranked) == 1 or (ranked and ranked[0][:2] != ranked[1][:2]):
                return ranked[0][2]
            if ranked:
                tied = tied or f"{last[:80]}: {len(ranked)} images of this name, such as {ranked[1][2]}"
        if tied:
            raise DataError(f"{tied}; rename one of them")
        return None

    def path(self, name: str) -> Path:
        """The path of an image of the tree."""
        return self.tree.root / name


def _ending(wanted: Sequence[str], path: Sequence[str]) -> int:
    """How many parts at the end of two paths are equal."""
    pairs = zip(reversed([normalize("NFC", part) for part in path]), reversed(wanted), strict=False)
    count = 0
    for part, other in pairs:
        if part != other:
            break
        count += 1
    return count


def split_of(path: str) -> str:
    """The split that a path names: `labels/train/7.txt`, `trainannot/7.png`, `val2017.json`; "" if it names none."""
    *folders, last = path.lower().split("/")
    for part in [last] * last.endswith(".json") + folders[::-1]:
        for word in re.split(r"[^a-z]+", part):
            if split := _SPLITS.get(word.removesuffix("annot")):
                return split
    return ""


def short_names(names: Sequence[str]) -> list[str]:
    """A name without folders for each path: its stem, with what makes it unique among the others."""
    stems = [os.path.splitext(name.rpartition("/")[2]) for name in names]
    counts = Counter(stem for stem, _ in stems)
    short = [
        stem if counts[stem] == 1 else os.path.splitext(name)[0].replace("/", "__")
        for name, (stem, _) in zip(names, stems, strict=True)
    ]
    twice = Counter(short)
    full = [f"{text}_{end[1:]}" if twice[text] > 1 else text for text, (_, end) in zip(short, stems, strict=True)]
    taken: set[str] = set()
    for index, text in enumerate(full):
        number = 2
        while full[index] in taken:
            full[index] = f"{text}-{number}"
            number += 1
        taken.add(full[index])
    return full
