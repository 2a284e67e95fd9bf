"""Images and masks of a folder, separated by folder or by the ending of their names, and paired."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from kd.data.images.decode import SUFFIXES
from kd.data.images.files import find_endings
from kd.data.images.names import Listing
from kd.prepare.files import split_of
from kd.prepare.formats.export import Source

_OF_IMAGES = (
    "image",
    "images",
    "img",
    "imgs",
    "jpegimages",
    "leftimg8bit",
    "input",
    "inputs",
    "photos",
    "pictures",
    "rgb",
)
_OF_MASKS = (
    "mask", "masks", "label", "labels", "labelmaps", "annotation", "annotations", "annot", "gt", "gtfine",
    "groundtruth", "ground_truth", "segmentation", "segmentations", "segmentationclass", "target", "targets", "seg",
)  # fmt: skip
_ENDING = re.compile(r"[_\-. ]?(mask|masks|label|labels|seg|segmentation|gt|annotation|L|anno)$")
_SPLIT_FOLDER = re.compile(r"^(train|val|valid|validation|test)((?:[_-][a-z_]+|annot)?)$")  # train_labels, trainannot
_STANDARD = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


class Paired(NamedTuple):
    """An image and its mask."""

    image: str  # as the trees list them
    mask: str
    split: str


class Pairs(NamedTuple):
    """All pairs of a folder."""

    pairs: list[Paired]
    image_ending: str
    mask_ending: str
    alone: list[str]  # images without a mask
    unused: list[str]  # masks without an image


def sides(source: Source) -> tuple[list[str], list[str]] | None:
    """The images and the masks of a source, or None if one of them is missing."""
    if source.marks.root != source.images.root:
        images = [name for name in source.images.named(*SUFFIXES) if not _is_within(source, name)]
        return (images, masks) if images and (masks := source.marks.named(*SUFFIXES)) else None
    pictures = source.images.named(*SUFFIXES)
    masks = [name for name in pictures if _has(name, _OF_MASKS)]
    images = [name for name in pictures if _has(name, _OF_IMAGES)]
    if images and not masks:  # folders of classes
        stems_of_images = {_stem(name) for name in images}
        masks = [name for name in pictures if name not in set(images) and _stem(name) in stems_of_images]
    images = images or sorted(set(pictures) - set(masks))
    if masks and images:
        return [name for name in images if name not in set(masks)], masks
    stems = {os.path.splitext(name)[0]: name for name in pictures}
    masks = [name for stem, name in stems.items() if _base(stem) in stems]
    return (sorted(set(pictures) - set(masks)), masks) if masks else None


def _stem(name: str) -> str:
    return os.path.splitext(name.rpartition("/")[2])[0]


def paired(source: Source, images: Sequence[str], masks: Sequence[str]) -> Pairs:
    """Pair names that are equal but for a suffix and an ending, whatever the folders of sides and splits."""
    of_image, of_mask = ({_key(name): name for name in names} for names in (images, masks))
    image_ending = mask_ending = ""
    if not of_image.keys() & of_mask.keys():
        listings = (
            Listing(Path(), {key[1]: Path(name) for key, name in names.items()}, {}) for names in (of_image, of_mask)
        )
        found = find_endings(*listings)
        if found:
            image_ending, mask_ending = found[0]
            of_image = {(split, key.removesuffix(image_ending)): name for (split, key), name in of_image.items()}
            of_mask = {
                (split, key.removesuffix(mask_ending)): name
                for (split, key), name in of_mask.items()
                if key.endswith(mask_ending)
            }
    pairs = [Paired(of_image[key], of_mask[key], key[0]) for key in of_image if key in of_mask]
    alone = [name for key, name in of_image.items() if key not in of_mask]
    unused = [name for key, name in of_mask.items() if key not in of_image]
    return Pairs(pairs, image_ending, mask_ending, alone, unused)


def folders_of(names: Sequence[str], splits: Sequence[str]) -> str | None:
    """The folder that holds these files, `{split}` in place of their splits; None if no such argument fits.

    Args:
        names: of files.
        splits: of each file, as `split_of` returned it.
    """
    has_splits = "train" in splits and "val" in splits
    found = set()
    for name, split in zip(names, splits, strict=True):
        parts = name.split("/")[:-1]
        if has_splits:
            at = [i for i, part in enumerate(parts) if split and _SPLIT_FOLDER.sub(r"\1", part) in _STANDARD[split]]
            if len(at) != 1:
                return None
            parts[at[0]] = _SPLIT_FOLDER.sub(r"{split}\2", parts[at[0]])
        found.add(tuple(parts))
    shortest, longest = min(found), max(found)
    common = shortest[: next((i for i, part in enumerate(shortest) if longest[i : i + 1] != (part,)), len(shortest))]
    if has_splits and not any("{split}" in part for part in common):
        return None
    if len(found) > 1 and common in found:  # files both in the folder and below it
        return None
    return "/".join(common) or "."


def by_class(images: Sequence[str], masks: Sequence[str]) -> dict[str, dict[str, str]] | None:
    """Masks of one class each: image -> name of a class -> mask; None if the masks are not so.

    The name of the class is a folder above the masks, `leaf/7.png`, or an ending of their names, `7_leaf.png`.
    """
    image_of = {_key(name): name for name in images}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name in masks:
        split, key = _key(name)
        folder, _, last = key.rpartition("/")
        above, _, label = folder.rpartition("/")
        base = next((key[:end] for end in range(len(key) - 1, 0, -1) if (split, key[:end]) in image_of), None)
        if label and (under := (split, f"{above}/{last}".lstrip("/"))) in image_of:
            found[image_of[under]][label] = name
        elif base is not None and (end := re.match(r"[_\-. ](.+)$", key[len(base) :])):
            found[image_of[split, base]][end[1]] = name
        else:
            return None
    labels = Counter(label for classes in found.values() for label in classes)
    several = max(map(len, found.values()), default=0) > 1
    return dict(found) if several and 2 * max(labels.values()) >= len(found) else None


def _key(name: str) -> tuple[str, str]:
    """What an image and its mask have in common: the split, and the path without the folders of sides and splits."""
    stem = normalize("NFC", os.path.splitext(name)[0])
    *folders, last = stem.split("/")
    kept = [part for part in folders if not {_plain(part)} & {*_OF_IMAGES, *_OF_MASKS} and not split_of(f"{part}/")]
    return split_of(name), "/".join([*kept, last])


def _has(name: str, words: Sequence[str]) -> bool:
    return any(_plain(part) in words for part in name.split("/")[:-1])


def _plain(part: str) -> str:
    """The name of a folder in lower case, without the split before it."""
    match = _SPLIT_FOLDER.match(part.lower())
    return match[2].strip("_-") if match and match[2] else part.lower()


def _base(stem: str) -> str:
    return stem[: match.start()] if (match := _ENDING.search(stem)) else ""


def _is_within(source: Source, name: str) -> bool:
    """Whether a file of the images' tree lies in the folder of the annotations."""
    marks, images = source.marks.root.resolve(), source.images.root.resolve()
    return marks != images and (images / name).is_relative_to(marks)
