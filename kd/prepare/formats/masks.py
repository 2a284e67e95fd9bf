"""Masks as they are: one file for each image, in numbers or colours."""

import os
from pathlib import Path
from typing import Any

from kd.errors import DataError
from kd.prepare.codes import find_map, meaning_of
from kd.prepare.faults import too_few
from kd.prepare.formats.export import Export, Found, Item, Ready, Source, division
from kd.prepare.formats.pairs import Pairs, folders_of, paired, sides
from kd.prepare.formats.splits import Stated, stated_splits
from kd.units import counted


def read(source: Source) -> Found | None:
    """Pairs of images and masks, where they are if `kd.data.Folders` can read them there."""
    found = sides(source)
    if found is None:
        return None
    pairs = paired(*found)
    if not pairs.pairs:
        held = f"none of {counted(len(found[1]), 'mask')} has the name of one of {counted(len(found[0]), 'image')}"
        raise DataError(f"{source.marks.root}: {held}, such as {found[1][0]} and {found[0][0]}; rename them alike")
    if len(pairs.pairs) == 1:
        raise too_few(str(source.marks.root), 1)
    masks = [source.file(pair.mask) for pair in pairs.pairs]
    roots = (source.marks.root, source.images.root, masks[0].parent, *source.above())
    class_map, others = (source.classes, []) if source.classes else find_map(roots)
    args, notes = meaning_of(masks, class_map)
    notes = [*others, *notes, *_unpaired(pairs)]
    what = f"masks of {counted(len(masks), 'image')}"
    if pairs.loose:
        notes.append(f"names are alike in part: {pairs.pairs[0].mask} is the mask of {pairs.pairs[0].image}")
    if not (pairs.alone or pairs.unused or pairs.loose):
        names = [pair.image for pair in pairs.pairs]
        stated = stated_splits(names, source)
        place = _place(source, pairs, stated)
        if place is not None:
            notes += stated.notes(names) if stated and "lists" in place else []
            return Ready(what, {**place, **args}, notes)
    items = [
        Item(source.images.root / pair.image, pair.image, pair.split, source.file(pair.mask)) for pair in pairs.pairs
    ]
    return Export(what, items, args, notes)


def _lists(where: Path, root: Path) -> str | None:
    """The list files of the splits as an argument of Folders; None if it does not find them."""
    lists = Path(os.path.relpath(where, root), "{split}.txt").as_posix()
    found = (root / lists.format(split=split) for split in ("val", "valid", "validation"))
    is_there = (root / lists.format(split="train")).is_file() and any(path.is_file() for path in found)
    return lists if is_there and not lists.startswith("..") else None


def _place(source: Source, pairs: Pairs, stated: Stated | None) -> dict[str, Any] | None:
    """The arguments of Folders that find the pairs where they are; None if there are none."""
    splits = [pair.split for pair in pairs.pairs]
    has_splits = "train" in splits and "val" in splits
    if set(splits) != {""} and not has_splits:
        return None
    root = common_root(source.images.root, source.marks.root)
    folders = []
    for tree_root, names in (
        (source.images.root, [pair.image for pair in pairs.pairs]),
        (source.marks.root, [pair.mask for pair in pairs.pairs]),
    ):
        folder = folders_of(names, splits)
        if folder is None:
            return None
        folders.append(Path(os.path.relpath(tree_root, root), folder).as_posix())
    images, masks = folders
    mask_ending = pairs.mask_ending
    if images == masks and not mask_ending:
        return None
    place: dict[str, Any] = {"root": root.as_posix(), "images": images, "masks": masks}
    if pairs.image_ending:
        place["image_suffix"] = pairs.image_ending
    if mask_ending:
        place["mask_suffix"] = mask_ending
    if has_splits:
        return place
    if stated is None:
        return {**place, **division([pair.image for pair in pairs.pairs])}
    lists = _lists(stated.where, root)
    return None if lists is None else {**place, "lists": lists}


def common_root(first: Path, second: Path) -> Path:
    """The folder that holds both, relative if both are."""
    if first.is_absolute() == second.is_absolute() and ".." not in (*first.parts, *second.parts):
        return Path(os.path.commonpath([first, second]) or ".")
    return Path(os.path.commonpath([first.absolute(), second.absolute()]))


def _unpaired(pairs: Pairs) -> list[str]:
    return [
        f"warning: left out: {counted(len(names), what)} without {other}, such as {names[0]}"
        for names, what, other in ((pairs.alone, "image", "a mask"), (pairs.unused, "mask", "an image"))
        if names
    ]
