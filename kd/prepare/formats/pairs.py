"""Images and masks of a folder, separated by folder or by the ending of their names, and paired."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple
from unicodedata import normalize

from kd.data.images.decode import SUFFIXES
from kd.data.images.names import suffix_of
from kd.errors import DataError
from kd.prepare.codes import hold_classes
from kd.prepare.files import split_of
from kd.prepare.formats.export import Source

_OF_IMAGES = (
    "image",
    "images",
    "imagestr",
    "imagests",
    "img",
    "imgs",
    "jpegimages",
    "leftimg8bit",
    "input",
    "inputs",
    "original",
    "photos",
    "pictures",
    "rgb",
)
_OF_MASKS = (
    "mask", "masks", "label", "labels", "labelmaps", "annotation", "annotations", "annot", "gt", "gtfine", "seg",
    "labelstr", "labelsts",
    "groundtruth", "segmentation", "segmentations", "segmentationclass", "segmentationclasspng", "target", "targets",
)  # fmt: skip
_ENDING = re.compile(r"[_\-. ]?(mask|masks|label|labels|seg|segmentation|gt|annotation|L|anno)$")
_SPLIT_FOLDER = re.compile(r"^(train|val|valid|validation|test)((?:[_-][a-z_]+|annot)?)$")  # train_labels, trainannot
_OTHER_MASKS = re.compile("object|instance|panoptic|part|edge|bound|contour|visual|colou?r|depth", re.IGNORECASE)
_OBSERVER = re.compile(r"\d(st|nd|rd|th)")  # who drew the masks: CHASE_DB1's 1stHO and 2ndHO
_MAX_ENDINGS = 20  # of the masks that begin alike, beyond which a name is the start of all
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
    loose: bool = False  # whether names are equal only in parts, so that they have to be changed


def sides(source: Source) -> tuple[list[str], list[str]] | None:
    """The images and the masks of a source, or None if one of them is missing.

    Raises:
        DataError: two folders hold masks of classes.
    """
    if source.marks.root != source.images.root:
        images = [name for name in source.images.named(*SUFFIXES) if not _is_within(source, name)]
        return (images, masks) if images and (masks := source.marks.named(*SUFFIXES)) else None
    pictures = source.images.named(*SUFFIXES)
    masks = [name for name in pictures if _has(name, _OF_MASKS)]
    images = [name for name in pictures if _has(name, _OF_IMAGES)]
    _refuse_others(source, pictures, images, masks)
    if images and not masks:  # folders of classes
        stems_of_images = {_stem(name) for name in images}
        masks = [name for name in pictures if name not in set(images) and _stem(name) in stems_of_images]
    images = images or sorted(set(pictures) - set(masks))
    if masks and images:
        return [name for name in images if name not in set(masks)], masks
    stems = {os.path.splitext(name)[0]: name for name in pictures}
    masks = [name for stem, name in stems.items() if _base(stem) in stems]
    return (sorted(set(pictures) - set(masks)), masks) if masks else _two_kinds(source, pictures)


def _refuse_others(source: Source, pictures: Sequence[str], images: Sequence[str], masks: Sequence[str]) -> None:
    """Refuse masks in a folder that no word names, beside those that words decide for.

    Sets of the eye's fundus have the vessels in `1st_manual` or `manual1`, and the field of view in `mask`.
    """
    others: dict[str, list[str]] = defaultdict(list)
    for name in set(pictures).difference(images, masks) if images and masks else ():
        if not _OTHER_MASKS.search(os.path.dirname(name)):
            others[_folder_of(name)].append(name)
    for names in map(sorted, others.values()):
        if 2 * len(names) < len(masks) or not hold_classes([source.file(name) for name in names]):
            continue
        if 2 * len(paired(images, names).pairs) >= len(names):
            both = f"{os.path.dirname(masks[0])} and {os.path.dirname(names[0])} both hold masks"
            raise DataError(
                f"{source.marks.root}: {both}; give kd init the folder of the images and then that of the masks"
            )


def _two_kinds(source: Source, pictures: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Pictures of two folders, suffixes or endings, of which one kind holds few colours; None if there are none."""
    for kind_of in (_folder_of, suffix_of, _ending_of):
        kinds: dict[str, list[str]] = defaultdict(list)
        for name in pictures:
            kinds[kind_of(name)].append(name)
        if len(kinds) != 2:
            continue
        first, second = kinds.values()
        if 2 * len(paired(first, second).pairs) < min(len(first), len(second)):
            continue
        hold = [hold_classes([source.file(name) for name in names]) for names in (first, second)]
        if hold[0] != hold[1]:
            return (second, first) if hold[0] else (first, second)
    return None


def _folder_of(name: str) -> str:
    return "/".join(part for part in name.split("/")[:-1] if not split_of(f"{part}/"))


def _ending_of(name: str) -> str:
    match = re.search(r"[_\-. ]([A-Za-z]+)$", os.path.splitext(name)[0])
    return match[1] if match else ""


def _stem(name: str) -> str:
    return os.path.splitext(name.rpartition("/")[2])[0]


def paired(images: Sequence[str], masks: Sequence[str]) -> Pairs:
    """Pair names that are equal but for a suffix and an ending, whatever the folders of sides and splits.

    Where that pairs nothing, the last parts of the names are compared alone; then what these hold besides words for
    images and masks, capitals and zeros before a number: `IMG_7` and `mask_007`.

    Raises:
        DataError: two images, or two masks, are equal but for these.
    """
    found = _paired(images, masks, _key)
    if not found.pairs:
        found = _paired(images, masks, lambda name: (split_of(name), _stem(name)), strict=False)
    if not found.pairs:
        found = _paired(images, masks, lambda name: (split_of(name), _bare(name)), strict=False)._replace(loose=True)
    return found


def _bare(name: str) -> str:
    """The last part of a name without words for images and masks, in small letters, numbers without leading zeros."""
    parts = [part for part in re.split(r"[_\-. ]+", _stem(name).lower()) if part not in (*_OF_IMAGES, *_OF_MASKS)]
    return "_".join(str(int(part)) if part.isdecimal() else part for part in parts)


def _paired(
    images: Sequence[str], masks: Sequence[str], key_of: Callable[[str], tuple[str, str]], *, strict: bool = True
) -> Pairs:
    of_image, of_mask = ({key_of(name): name for name in names} for names in (images, masks))
    if not strict and (len(of_image), len(of_mask)) != (len(images), len(masks)):
        other = next((name for name in masks if of_mask[key_of(name)] != name and key_of(name) in of_image), None)
        if other is not None:
            raise _twice(of_mask[key_of(other)], other)
        return Pairs([], "", "", list(images), list(masks))
    image_ending, mask_ending = _best_endings(of_image, of_mask)
    sides = []
    for names, ending in ((images, image_ending), (masks, mask_ending)):
        side: dict[tuple[str, str], str] = {}
        for name in names:
            split, key = key_of(name)
            if key.endswith(ending) and side.setdefault((split, key.removesuffix(ending)), name) != name:
                raise _twice(side[split, key.removesuffix(ending)], name)
        sides.append(side)
    of_image, of_mask = sides
    pairs = [Paired(of_image[key], of_mask[key], key[0]) for key in of_image if key in of_mask]
    alone = [name for key, name in of_image.items() if key not in of_mask]
    unused = [name for key, name in of_mask.items() if key not in of_image]
    return Pairs(pairs, image_ending, mask_ending, alone, unused)


def _twice(first: str, second: str) -> DataError:
    return DataError(
        f"{first}: {second} has the same name; give kd init the folder of the images and then that of the masks"
    )


def _best_endings(images: Collection[tuple[str, str]], masks: Collection[tuple[str, str]]) -> tuple[str, str]:
    """The endings of images and masks without which most of them have equal names, at least half of one side.

    Of several kinds of masks, such as Cityscapes has, those of labels come first and instances last.
    """
    of_masks: dict[tuple[str, str], set[str]] = defaultdict(set)
    for split, key in masks:
        for base, ending in _cuts(key):
            of_masks[split, base].add(ending)
    counts: Counter[tuple[str, str]] = Counter()
    for split, key in images:
        counts.update(
            {
                (ending, other)
                for base, ending in _cuts(key)
                if len(others := of_masks.get((split, base), ())) <= _MAX_ENDINGS
                for other in others
            }
        )
    fitting = [(count, ends) for ends, count in counts.items() if 2 * count >= min(len(images), len(masks))]

    def rank(found: tuple[int, tuple[str, str]]) -> tuple[int, bool, bool, int, str]:
        count, (ending, other) = found
        return -count, "nstance" in other, "abel" not in other and bool(other), len(ending + other), other

    return min(fitting, key=rank)[1] if fitting else (_shared_number(images, masks), "")


def _shared_number(images: Collection[tuple[str, str]], masks: Collection[tuple[str, str]]) -> str:
    """The number at the end of all images, such as nnU-Net's `_0000` of a channel, without which most have masks."""
    endings = {match[0] if (match := re.search(r"_\d+$", key)) else "" for _, key in images}
    ending = endings.pop() if len(endings) == 1 else ""
    fitting = [split for split, key in images if (split, key.removesuffix(ending)) in masks]
    return ending if 2 * len(fitting) >= min(len(images), len(masks)) else ""


def _cuts(key: str) -> list[tuple[str, str]]:
    """A name cut before each separator, into what stays and an ending with a letter; whole first."""
    start = key.rfind("/") + 1
    cuts = [(key[: at.start()], key[at.start() :]) for at in re.finditer(r"[_\-. ]", key) if at.start() > start]
    return [(key, ""), *((base, ending) for base, ending in cuts if re.search("[A-Za-z]", ending))]


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

    Raises:
        DataError: they are of several observers.
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
    if len(labels) > 1 and all(_OBSERVER.match(label) for label in labels):
        image, of_image = max(found.items(), key=lambda item: len(item[1]))
        raise DataError(f"{image}: masks of {' and '.join(of_image)}; move all but those of one out of the folder")
    several = max(map(len, found.values()), default=0) > 1
    return dict(found) if several and 2 * max(labels.values()) >= len(found) else None


def _key(name: str) -> tuple[str, str]:
    """What an image and its mask have in common: the split, and the path without the folders of sides and splits."""
    stem = normalize("NFC", os.path.splitext(name)[0])
    *folders, last = stem.split("/")
    kept = [_without_side(part) for part in folders if not split_of(f"{part}/")]
    return split_of(name), "/".join([*filter(None, kept), last])


def _has(name: str, words: Sequence[str]) -> bool:
    return any(_side_words(part, words) for part in name.split("/")[:-1])


def _side_words(part: str, words: Sequence[str]) -> list[str]:
    """The words of the name of a folder that name a side: all of `Ground Truth`, one of `masks_png`."""
    match = _SPLIT_FOLDER.match(part.lower())
    found = [word for word in re.split(r"[^a-z]+", match[2] if match else part.lower()) if word]
    return found if "".join(found) in words else [word for word in found if word in words]


def _without_side(part: str) -> str:
    """The name of a folder without the words of images and masks."""
    named = {*_side_words(part, _OF_IMAGES), *_side_words(part, _OF_MASKS)}
    words = re.split(r"([^A-Za-z]+)", part)
    return "".join(word for word in words if word.lower() not in named).strip("_-. ") if named else part


def _base(stem: str) -> str:
    return stem[: match.start()] if (match := _ENDING.search(stem)) else ""


def _is_within(source: Source, name: str) -> bool:
    """Whether a file of the images' tree lies in the folder of the annotations."""
    marks, images = source.marks.root.resolve(), source.images.root.resolve()
    return marks != images and (images / name).is_relative_to(marks)
