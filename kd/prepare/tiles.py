"""`kd tiles`: large images, and their masks, cut into tiles of one size: a folder that `kd.data.Folders` reads."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.console import Say, progress
from kd.data.images.arrays import ARRAY, array_shape
from kd.data.images.decode import SUFFIXES, UPRIGHT, Limit, decoded, size_text
from kd.data.images.files import Pair, match, pair
from kd.data.images.names import list_images
from kd.errors import DataError, RecipeError, raised
from kd.prepare.convert import new_folder
from kd.recipe.overrides import as_override
from kd.units import counted

LARGEST = Limit(2**30, "save it as .npy, whose tiles need ranges")  # three bytes of memory a pixel
GROUP = "(.*)_y"  # of the names of tiles: the image that they come from
_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")  # of Pillow, that a PNG holds


def cut_command(
    images: Path, masks: Path | None, out: Path, *, size: tuple[int, int], mask_suffix: str, say: Say
) -> None:
    """Cut images, and masks of the same names, into tiles; the folder appears as a whole or not at all.

    Tiles touch; the last of a row or column ends at the border, and so overlaps the one before. An image that is
    smaller than a tile is one tile. Pixels are kept as they are; `.npy` files stay such. A mask that was
    drawn on the stored pixels of a turned photograph is turned with it.

    Args:
        images: the folder of the images.
        masks: the folder of the masks; None: images without labels.
        out: the new folder.
        size: (height, width) of a tile in pixels.
        mask_suffix: an ending of the masks' stems that the images' lack.
        say: takes the lines for the user.

    Raises:
        DataError: a file is missing, damaged or too large; a mask has another size than its image, or an encoding that
            changes labels; `out` exists.
        RecipeError: the size is out of range.
        StorageError: a tile cannot be written.
    """
    if min(size) < 32:
        raise RecipeError(f"--size {size[0]} {size[1]}: at least 32 pixels each")
    listed = list_images(images, images, suffixes=(*SUFFIXES, ARRAY), follow_links=True)
    if not listed.files:
        raise DataError(f"{images}: no images in this folder or below it")
    if listed.note:
        say(listed.note)
    pairs = {name: Pair(path, None) for name, path in listed.files.items()}
    if masks is not None:
        files = match(listed, list_images(masks, masks, mask_suffix, follow_links=True))
        with _without_pillows_limit():
            compared = pair(files.values(), limit=Limit(sys.maxsize, ""))  # see `_opened`
        pairs = dict(zip(files, compared.pairs, strict=True))
        for note in compared.notes:
            say(note)
    count = 0
    with new_folder(out) as folder, progress("cut", len(pairs)) as advance:
        for done, (name, (image, mask, turn)) in enumerate(pairs.items(), 1):
            whole = _opened(image)
            tiles = list(windows(whole.size, size))
            _write(whole, tiles, folder / "images", name)
            if mask is not None:
                _write(_opened(mask, turn), tiles, folder / "masks", name)
            count += len(tiles)
            advance(done)
    what = counted(len(pairs), "image") + ("" if masks is None else " with masks")
    say(f"{out}: {what} cut into {counted(count, 'tile')} of {size_text(size)} (width × height)")
    say(f"in a recipe, {as_override('data.args.group', GROUP)} keeps the tiles of an image in one split")


def windows(size: tuple[int, int], tile: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """The tiles of an image of a size (H, W): (top, left, bottom, right)."""
    for top in _starts(size[0], tile[0]):
        for left in _starts(size[1], tile[1]):
            yield top, left, min(top + tile[0], size[0]), min(left + tile[1], size[1])


def _starts(length: int, tile: int) -> list[int]:
    return sorted({*range(0, max(length - tile, 1), tile), max(length - tile, 0)})


class _Whole:
    """An image or mask that is cut.

    Args:
        size: (H, W).
        suffix: of its tiles.
        save: writes the tile (top, left, bottom, right) to a path.
    """

    def __init__(
        self, size: tuple[int, int], suffix: str, save: Callable[[tuple[int, int, int, int], Path], object]
    ) -> None:
        self.size, self.suffix, self.save = size, suffix, save


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Let Pillow open what `LARGEST` allows; it refuses a sixth of that by itself."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _opened(path: Path, turn: int | None = None) -> _Whole:
    """An image; or a mask, with the EXIF orientation to assume if it states none."""
    if path.suffix.lower() == ARRAY:
        shape = array_shape(path)
        try:
            values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as an array: {raised(error)}") from error

        def save_array(window: tuple[int, int, int, int], target: Path) -> None:
            top, left, bottom, right = window
            part = values[:, top:bottom, left:right] if shape.first else values[top:bottom, left:right]
            np.save(target, part)

        return _Whole((shape.height, shape.width), ARRAY, save_array)
    with _without_pillows_limit():
        image, lossy = decoded(path, turn or UPRIGHT, limit=LARGEST)
    if lossy and turn is not None:  # Folders would take the tiles, in PNG, for exact ones
        raise DataError(
            f"{path}: {lossy} changes labels; use the original masks, saved as PNG; if there are none, save black and "
            "white ones as PNG, each pixel 0 or 255"
        )
    if image.mode not in (*_MODES, "I"):
        raise DataError(f"{path}: unsupported pixel mode {image.mode}; save it as PNG, or as .npy")
    kind, suffix = ("TIFF", ".tif") if image.mode == "I" else ("PNG", ".png")  # 32 bits

    def save_picture(window: tuple[int, int, int, int], target: Path) -> None:
        top, left, bottom, right = window
        image.crop((left, top, right, bottom)).save(target, kind)

    return _Whole((image.height, image.width), suffix, save_picture)


def _write(whole: _Whole, tiles: list[tuple[int, int, int, int]], folder: Path, name: str) -> None:
    for window in tiles:
        target = folder / f"{name}_y{window[0]:05}_x{window[1]:05}{whole.suffix}"
        os.makedirs(target.parent, exist_ok=True)
        whole.save(window, target)
