"""The names of image files: listed by stem, chosen by list files, and compared without regard to how Unicode is stored.

A name is the path below the folder without its suffix, in composed Unicode (NFC): `7`, or `aachen/7`.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from kd.data.images.arrays import ARRAY
from kd.data.images.decode import SUFFIXES
from kd.errors import DataError
from kd.files.reading import MAX_DATA, read_text

MAX_LINES = 10  # of one DataError
_FILE = re.compile(
    rf"(?i)(.*?(?:{'|'.join(map(re.escape, (*SUFFIXES, ARRAY)))}))(?=[\"'\s,;]|$)"
)  # the first file that a line names
MAX_DEPTH = 8  # of folders in folders


class Listing(NamedTuple):
    """The images in a folder."""

    folder: Path
    files: Mapping[str, Path]  # by name, sorted
    skipped: Mapping[str, int]  # what else is there, by kind
    ending: str = ""  # removed from the names

    @property
    def note(self) -> str:
        """A line for the user; empty if nothing is skipped."""
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(self.skipped.items()))
        return f"{self.folder}: not read: {listed}" if listed else ""


def list_images(
    folder: Path,
    root: Path,
    ending: str = "",
    *,
    without: str = "",
    follow_links: bool = False,
    suffixes: Collection[str] = SUFFIXES,
) -> Listing:
    """The images in a folder, or, if it holds none itself, in the folders below it.

    Args:
        folder: the folder.
        root: links must not lead out of it.
        ending: removed from the names; files without it are skipped.
        without: files whose names end so are left out.
        follow_links: whether links may lead out of `root`.
        suffixes: of the files that are listed; all others are skipped.

    Raises:
        DataError: the folder does not exist; two files have one name; a name is not UTF-8; a link leads out of
            `root`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {nearest_content(folder)}")
    real_root = root.resolve()
    if not follow_links and not folder.resolve().is_relative_to(real_root):
        raise DataError(_leads_out(folder, root))
    skipped: Counter[str] = Counter()
    files: dict[str, Path] = {}
    start = len(os.path.join(folder, ""))
    try:
        entries = list(_image_files(str(folder), skipped, suffixes, follow_links=follow_links))
    except OSError as error:  # no permission; a loop of links
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    raise_all([f"{_escaped(e.path)}: the name is not UTF-8; rename the file" for e in entries if not _is_utf8(e.name)])
    for entry in entries:
        path = Path(entry.path)
        name = normalize("NFC", os.path.splitext(entry.path[start:])[0].replace(os.sep, "/"))
        if without and name.endswith(without):
            continue
        if not name.endswith(ending):
            skipped[f"without {ending}"] += 1
            continue
        name = name.removesuffix(ending)
        if name in files:
            raise DataError(f"{path}: has the same stem as {files[name].name}; keep one of the two")
        if not follow_links and entry.is_symlink() and not path.resolve().is_relative_to(real_root):
            raise DataError(_leads_out(path, root))
        files[name] = path
    return Listing(folder, files, skipped, ending)


def read_list(
    path: Path, images: Listing, masks: Listing | None = None, *, inside: Path | None = None
) -> dict[str, str | None]:
    """The images that a list file chooses, one a line, in its order, with the mask that the line names, if it does.

    A line is a name or a path, with or without its suffix, alone or followed by the path of its mask. Other columns
    and the header of a CSV file are left out.

    Args:
        path: the list file.
        images: that it may choose.
        masks: that it may name; None if they are not read.
        inside: a folder that a link to the list must not lead out of.

    Returns:
        Name of an image -> name of a mask; None where the line names none.

    Raises:
        DataError: the file cannot be read as text; a line names no image or a mask that is not there; a name occurs
            twice.
    """
    lines = read_text(path, "a list of names", DataError, limit=MAX_DATA, inside=inside).splitlines()
    find_image, find_mask = _finder(images), _finder(masks) if masks else None
    line_of: dict[str, int] = {}
    chosen: dict[str, str | None] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        text = normalize("NFC", line.strip())
        if not text:
            continue
        name, rest = next(((name, rest) for entry, rest in _entries(text) if (name := find_image(entry))), (None, ""))
        if name is None and number == 1 and path.suffix.lower() == ".csv":
            continue  # the header
        if name is None:
            problems.append(f"{path}:{number}: no image named {_short(next(_entries(text))[0])} in {images.folder}")
            continue
        if name in line_of:
            raise DataError(
                f"{path}:{number}: {_shortened(name)} is already in line {line_of[name]}; remove one of the two"
            )
        line_of[name] = number
        columns = _FILE.findall(rest) if find_mask else []
        found = [mask for column in columns if find_mask and (mask := find_mask(column))]
        if masks and len(columns) == 1 and not found:
            problems.append(f"{path}:{number}: no mask named {_short(columns[0])} in {masks.folder}")
        chosen[name] = found[0] if found else None
    raise_all(problems)
    return chosen


def without_suffix(name: str) -> str:
    """A name without the suffix of an image, if it has one."""
    return name[: -len(suffix_of(name))] if suffix_of(name) in (*SUFFIXES, ARRAY) else name


def nearest_content(folder: Path) -> str:
    """What the nearest existing parent of a missing folder contains."""
    parent = folder
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in parent.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{parent} contains {', '.join(names[:8]) or 'nothing'}{more}"


def raise_all(problems: list[str]) -> None:
    """Raise one DataError with a line for each problem, `MAX_LINES` at most; nothing if there are none."""
    if problems:
        more = [f"and {len(problems) - MAX_LINES} more of this kind"] if len(problems) > MAX_LINES else []
        raise DataError(problems[:MAX_LINES] + more)


def _image_files(
    folder: str, skipped: Counter[str], suffixes: Collection[str], *, follow_links: bool, depth: int = MAX_DEPTH
) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    images: list[os.DirEntry[str]] = []
    folders: list[os.DirEntry[str]] = []
    for entry in found:
        if entry.name.startswith("."):
            skipped["hidden"] += 1
        elif entry.is_dir():
            if follow_links or not entry.is_symlink():
                folders.append(entry)
        elif (suffix := suffix_of(entry.name)) in suffixes:
            images.append(entry)
        else:
            skipped[suffix or "without a suffix"] += 1
    if images:
        yield from images
        if folders:
            skipped["folder" if len(folders) == 1 else "folders"] += len(folders)
    elif depth > 0:
        for entry in folders:
            yield from _image_files(entry.path, skipped, suffixes, follow_links=follow_links, depth=depth - 1)


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _escaped(path: str) -> str:
    """A path as text, the bytes that are not UTF-8 as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def suffix_of(name: str) -> str:
    """The suffix of a name in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()


def _entries(line: str) -> Iterator[tuple[str, str]]:
    """What a line may name, and what follows, the likeliest first: names may contain spaces, and a mask may follow."""
    if first := re.match(rf"{_FILE.pattern}", line):  # image.png mask.png
        yield first[1], line[first.end() :]
    if first := re.match(r"(\S*/\S*)[\s,;]+\S*/\S*$", line):  # images/7 masks/7
        yield first[1], ""
    yield line, ""
    for separator in reversed([*re.finditer(r"[\s,;]+", line)]):
        yield line[: separator.start()], line[separator.end() :]


def _finder(listing: Listing) -> Callable[[str], str | None]:
    """A function that returns the name in a listing that an entry of a list file means, or None."""
    counts = Counter(name.rpartition("/")[2] for name in listing.files)
    full = {last: name for name in listing.files if counts[last := name.rpartition("/")[2]] == 1}

    def find(entry: str) -> str | None:
        path = entry.strip(" \t,;\"'").replace("\\", "/")
        for text in dict.fromkeys((without_suffix(path).removesuffix(listing.ending), without_suffix(path), path)):
            *folders, last = parts = text.split("/")
            for start in range(len(parts)):  # a path is relative to some folder: its end decides
                if (name := "/".join(parts[start:])) in listing.files:
                    return name
            if last in full and folders[-1:] in ([], [listing.folder.name]):  # in another folder, it is another file
                return full[last]
        return None

    return find


def _leads_out(path: Path, root: Path) -> str:
    return f"{path}: a link that leads out of {root}; name the real folder (or, for Folders, set follow_links: true)"


def _short(entry: str) -> str:
    return _shortened(without_suffix(entry.strip(" \t,;\"'").replace("\\", "/").rpartition("/")[2]))


def _shortened(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
