"""Masks as they are: one file for each image, in numbers or colours."""

import os
from pathlib import Path
from typing import Any

from kd.errors import DataError
from kd.prepare.codes import find_map, meaning_of
from kd.prepare.formats.export import Export, Found, Item, Ready, Source, division
from kd.prepare.formats.faults import too_few
from kd.prepare.formats.pairs import Pairs, folders_of, paired, sides
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
    args, notes = meaning_of(masks, source.classes or find_map(roots))
    notes += _unpaired(pairs)
    what = f"masks of {counted(len(masks), 'image')}"
    lists = _lists(source)
    if pairs.loose:
        notes.append(f"names are alike in part: {pairs.pairs[0].mask} is the mask of {pairs.pairs[0].image}")
    place = None if pairs.alone or pairs.unused or pairs.loose else _place(source, pairs, lists)
    if place is not None:
        return Ready(what, {**place, **args}, notes)
    items = [
        Item(source.images.root / pair.image, pair.image, pair.split, source.file(pair.mask)) for pair in pairs.pairs
    ]
    return Export(what, items, args, notes)


def _lists(source: Source) -> str | None:
    """The list files of the splits, `train.txt` and `val.txt` in one folder, as an argument of Folders."""
    names = set(source.images.names)
    for name in source.images.names:
        folder, _, last = name.rpartition("/")
        pattern = f"{folder}/{{split}}.txt".lstrip("/")
        if last == "train.txt" and pattern.replace("{split}", "val") in names:
            return pattern
    return None


def _place(source: Source, pairs: Pairs, lists: str | None) -> dict[str, Any] | None:
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
    if lists and not has_splits:
        return {**place, "lists": Path(os.path.relpath(source.images.root, root), lists).as_posix()}
    return place if has_splits else {**place, **division([pair.image for pair in pairs.pairs])}


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
