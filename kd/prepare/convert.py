"""Images and drawn masks as a folder that `kd.data.Folders` reads; the folder appears whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kd.constants import IGNORE
from kd.data.masks.classes import distinct_colors
from kd.data.splits.groups import groups_of
from kd.data.splits.shares import Shares
from kd.errors import DataError, RecipeError, StorageError, WeightsError
from kd.prepare.faults import too_few
from kd.prepare.files import short_names
from kd.prepare.formats.export import Export, Item, division
from kd.units import counted

ELSEWHERE = "choose another folder with --out DIR"
_IGNORED_COLOR = (224, 224, 192)  # VOC's


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its name when the block ends, and is removed if the block fails.

    Raises:
        DataError: `out` exists.
        StorageError: it cannot be written.
    """
    if os.path.lexists(out):
        raise DataError(f"{out}: exists; remove it, or {ELSEWHERE}")
    temporary = out.parent / f".tmp-{secrets.token_hex(8)}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.rename(temporary, out)
    except (RecipeError, DataError, WeightsError) as error:
        error.mistakes[:] = [line.replace(str(temporary), str(out)) for line in error.mistakes]
        raise
    except OSError as error:
        raise StorageError(f"{out}: cannot be written ({error.strerror or error}); {ELSEWHERE}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def convert(export: Export, folder: Path, advance: Callable[[int], None]) -> tuple[dict[str, Any], list[str]]:
    """Write the images (as links to the same data where the disk allows) and masks of an export.

    Args:
        export: what to write.
        folder: gets the folders `images` and `masks`.
        advance: called with the number of images that are done.

    Returns:
        The arguments of Folders but `root`, and lines for the user.

    Raises:
        DataError: an image or annotation is damaged or wrong.
    """
    items = sorted(export.items, key=lambda item: item.name)
    if len(items) < 2:
        raise too_few(export.what, len(items))
    splits, notes = _splits(items)
    names = short_names([item.name for item in items])
    classes = export.args["classes"]
    for done, (item, name, split) in enumerate(zip(items, names, splits, strict=True), 1):
        suffix = item.image.suffix
        _link(item.image, folder / "images" / split / f"{name}{suffix}")
        if isinstance(item.mask, Path):
            _link(item.mask, folder / "masks" / split / f"{name}{item.mask.suffix}")
        else:
            _save(item.mask(), folder / "masks" / split / f"{name}.png", len(classes))
        advance(done)
    args = dict(export.args)
    if splits[0]:
        args |= {"images": "images/{split}", "masks": "masks/{split}"}
    else:
        args |= division(names)
    return args, notes


def _splits(items: list[Item]) -> tuple[list[str], list[str]]:
    """The split of each image, or "" if the recipe divides them; a line if some were held out here."""
    stated = [item.split for item in items]
    if "train" not in stated or set(stated) == {"train"}:
        return [""] * len(items), [] if set(stated) <= {"", "train"} else [
            "no training split: all images are divided again"
        ]
    splits = [split or "train" for split in stated]
    if "val" in splits:
        return splits, []
    names = [item.name for item, split in zip(items, splits, strict=True) if split == "train"]
    args = division(names)
    group_of = groups_of(names, args["group"], Path()) if "group" in args else None
    chosen = set(Shares(val=args["val"]).of(names, "val", group_of))
    splits = ["val" if item.name in chosen else split for item, split in zip(items, splits, strict=True)]
    return splits, [
        f"the export has no validation split: {len(chosen)} of its {counted(len(names), 'training image')} held out"
    ]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(real, target)


def _save(mask: np.ndarray[Any, np.dtype[np.uint8]], target: Path, classes: int) -> None:
    """Write indices, with a palette for whoever looks at the file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[:classes] = distinct_colors(classes)
    palette[IGNORE] = _IGNORED_COLOR
    image = Image.fromarray(mask)
    image.putpalette(palette.tobytes())
    image.save(target)
