"""What a converter returns: labelled images, each with a function that draws its mask, and what the masks hold."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.constants import IGNORE
from kd.data.images.decode import Header, read_header, size_text, turned
from kd.errors import DataError, did_you_mean
from kd.prepare.codes import is_background, is_ignored
from kd.prepare.faults import damaged, misdrawn, no_image
from kd.prepare.files import Images, Tree
from kd.units import counted

Mask = NDArray[np.uint8]  # (H, W): class indices, IGNORE where no class is meant
BACKGROUND = "background"
MAX_NAME = 200  # characters of a class
_OF_ONE_IMAGE = (  # tiles of `kd tiles`, augmented copies of Roboflow, slices of a patient and frames of a film
    r"(.*)_y\d+_x\d+",
    r"(.*)\.rf\.",
    r"(.*)[_-](?i:slice|frame|z)[_-]?\d+",
)


class Source(NamedTuple):
    """What `kd init` was given."""

    images: Tree
    marks: Tree  # the annotations; the same tree if none were named
    classes: Path | None = None  # a class map that the user names
    overlap: str | None = None  # `area` or `order`; None: as the format's own tools do
    holes: bool = False  # a polygon within another of the same object is a hole

    def file(self, name: str) -> Path:
        """The path of an annotation file."""
        return self.marks.root / name

    def above(self) -> list[Path]:
        """The folders that hold images and annotations, if the user names both; none above a whole export."""
        roots = (self.marks.root, self.images.root)
        return [] if roots[0] == roots[1] else list(dict.fromkeys(root.parent for root in roots))


class Item(NamedTuple):
    """A labelled image."""

    image: Path
    name: str  # as the tree lists it
    split: str  # "train", "val", "test", or "" where the export has no splits
    mask: Callable[[], Mask] | Path  # draws the mask; or the file that holds it


class Export(NamedTuple):
    """Images that have to be written as a folder of images and masks."""

    what: str  # such as "COCO JSON, 2 files"
    items: Sequence[Item]
    args: Mapping[str, Any]  # `classes`, and `values` or `rest` where needed: arguments of Folders
    notes: Sequence[str] = ()


class Ready(NamedTuple):
    """A folder that `kd.data.Folders` reads as it is."""

    what: str
    args: Mapping[str, Any]  # all arguments of Folders
    notes: Sequence[str] = ()


Found = Export | Ready


class Names(NamedTuple):
    """The classes of an export: index 0 is the background of whatever no object covers."""

    names: tuple[str, ...]
    label_of: Mapping[str, int]  # of each label of the export; IGNORE for labels that mean no class


def class_names(labels: Sequence[str], where: str) -> Names:
    """Class names from the labels of an export, in their order; the background comes first and is added if missing.

    Raises:
        DataError: there is no label, or there are too many.
    """
    for label in labels:
        if not label.strip() or len(label) > MAX_NAME or not label.isprintable():
            raise misdrawn(where, f"the label {label[:MAX_NAME]!r} is no name")
    kept = [label for label in dict.fromkeys(labels) if not (is_background(label) or is_ignored(label))]
    grounds = [label for label in labels if is_background(label)]
    if not kept:
        raise DataError(f"{where}: no object of a class; draw one")
    if len(kept) > 253:
        raise DataError(f"{where}: {len(kept)} classes besides the background; merge some, kd takes 253")
    names = (grounds[0] if grounds else BACKGROUND, *kept)
    index = {name: number for number, name in enumerate(names)}
    index |= dict.fromkeys(grounds, 0) | {label: IGNORE for label in labels if is_ignored(label)}
    return Names(names, index)


def chosen_names(source: Source, labels: Sequence[str], where: str) -> Names:
    """As `class_names`, in the order of the class map that the user names, if there is one.

    Raises:
        DataError: the class map lacks a label; as `class_names`.
    """
    if source.classes is None:
        return class_names(labels, where)
    from kd.data.masks.classes import read_classes

    known = read_classes(str(source.classes)).names
    missing = [label for label in labels if not (label in known or is_background(label) or is_ignored(label))]
    if missing:
        raise DataError(
            f"{source.classes}: the class '{missing[0]}' of {where} is missing{did_you_mean(missing[0], known)}"
        )
    return class_names([*known, *labels], where)


def held_out(images: int) -> str:
    """The share of the images that is held out: a fifth, or half of two."""
    return "20%" if images > 2 else "50%"


def division(names: Sequence[str]) -> dict[str, str]:
    """The arguments of Folders that hold out images: `val`, and `group` where names show parts or copies of one image.

    Args:
        names: of all images, with or without folders and suffixes.
    """
    for pattern in _OF_ONE_IMAGE:
        groups = {match[1] for name in names if (match := re.search(pattern, name))}
        if 1 < len(groups) < len(names) and all(re.search(pattern, name) for name in names):
            return {"val": held_out(len(groups)), "group": pattern}
    return {"val": held_out(len(names))}


def sized_header(path: Path, size: tuple[int, int] | None, where: str) -> tuple[int, int]:
    """The (height, width) on which an image was annotated.

    Args:
        path: the image.
        size: (height, width) that the annotation states; None if it states none.
        where: the annotation, for the message.

    Raises:
        DataError: the image cannot be read, or has another size.
    """
    header: Header = read_header(path)
    if size is None or size in (header.size, turned(header.size, header.turn)):
        return size or header.size
    stated, actual = size_text(size)[:40], size_text(header.size)
    raise damaged(where, f"it states {stated} for {path}, which is {actual} (width × height)")


def without_annotation(images: Images, items: Iterable[Item]) -> list[str]:
    """A line about the images that no annotation names; none if there are none."""
    alone = sorted(set(images.names) - {item.name for item in items})
    return [f"left out: {counted(len(alone), 'image')} without an annotation, such as {alone[0]}"] if alone else []


def find_image(images: Images, name: str, near: str, where: str) -> str:
    """The image that an annotation names.

    Raises:
        DataError: it is not there.
    """
    found = images.find(name, near)
    if found is None:
        raise no_image(where, name, images)
    return found
