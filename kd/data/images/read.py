"""Images and masks as arrays."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kd.data.images.decode import UPRIGHT, Limit, Source, decoded
from kd.errors import DataError

BAND = 256  # rows that are converted at a time


def read_image(path: Source, channels: int, *, limit: Limit | None = None) -> Tensor:
    """Read an image as uint8 (channels, H, W), turned upright by its EXIF tag.

    Grey becomes three equal channels if `channels` is 3; three equal channels become one if it is 1; palettes are
    looked up; an opaque alpha channel is dropped.

    Args:
        path: a file of one of `decode.SUFFIXES` with 8 bits per channel.
        channels: 1 or 3.
        limit: None: `decode.MAX_PIXELS`.

    Raises:
        DataError: the file cannot be read, is damaged, too large, partly transparent, has more than 8 bits per
            channel, or is in colour although `channels` is 1. Names the file.
    """
    image = decoded(path, limit=limit)[0]
    fourth = ", or in data.args set channels: 4, ranges: [0, 255] if that is a channel of its own"
    image = _without_alpha(path, image, fourth if image.mode == "RGBA" else "")
    if image.mode not in ("1", "L", "P", "RGB"):
        stated = ", or in data.args set channels: 1, ranges: [low, high]" if image.mode.startswith("I;16") else ""
        raise DataError(
            f"{path}: unsupported pixel mode {image.mode}; save it as 8-bit grey or RGB, scaled as you need{stated}"
        )
    if image.mode in ("1", "L"):
        grey = np.array(image.convert("L"))
        return torch.from_numpy(grey).expand(channels, -1, -1).contiguous()
    if channels == 3:
        return _planes(image)
    pixels = np.array(image.convert("RGB"))  # (H, W, 3)
    if not is_grey(pixels):
        row, column = np.argwhere((pixels != pixels[..., :1]).any(-1))[0].tolist()
        raise DataError(
            f"{path}: channels is 1, but the image is in colour: {tuple(pixels[row, column].tolist())} at row {row}, "
            f"column {column}; train with channels: 3, or save it as grey"
        )
    return torch.from_numpy(pixels[None, ..., 0].copy())


def _planes(image: Image.Image) -> Tensor:
    """An image as RGB (3, H, W), band by band: a large one is held in no third form."""
    planes = torch.empty((3, image.height, image.width), dtype=torch.uint8)
    for top in range(0, image.height, BAND):
        band = image.crop((0, top, image.width, min(top + BAND, image.height)))
        pixels = np.array(band if band.mode == "RGB" else band.convert("RGB"))  # (rows, W, 3)
        planes[:, top : top + BAND] = torch.from_numpy(pixels).permute(2, 0, 1)
    return planes


class Stored(NamedTuple):
    """A mask as its file stores it."""

    values: NDArray[Any]  # integers (H, W), or RGB uint8 (H, W, 3)
    palette: NDArray[np.uint8] | None  # RGB (256, 3): the colour of each value, of a file with a palette
    bits: bool  # black and white in 1 bit: the values are 0 and 1
    lossy: str  # the name of an encoding that changes values; empty if none


def read_mask(path: Source, turn: int = UPRIGHT) -> Stored:
    """Read a mask as stored, turned upright by its EXIF tag.

    Args:
        path: the file.
        turn: EXIF orientation to assume for a mask without one: its image's, if it was drawn on the turned pixels.

    Raises:
        DataError: the file cannot be read, is damaged, too large, partly transparent, or does not hold integers, or
            Pillow does not keep all their bits. Names the file.
    """
    image, lossy = decoded(path, turn)
    if image.mode == "P":  # its transparency affects neither the values nor their colours
        listed = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[: len(listed)] = listed
        return Stored(np.array(image), palette, False, lossy)
    image = _without_alpha(path, image)
    if image.mode == "1":
        return Stored(np.array(image).astype(np.uint8), None, True, lossy)
    if image.mode not in ("L", "RGB", "I") and not image.mode.startswith("I;16"):
        raise DataError(
            f"{path}: unsupported pixel mode {image.mode} for a mask; save it as PNG with indices, a palette or RGB"
        )
    return Stored(np.array(image), None, False, lossy)


def is_grey(pixels: NDArray[Any]) -> bool:
    """Whether the three channels of RGB (H, W, 3) are equal everywhere."""
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())


def _without_alpha(path: Source, image: Image.Image, other: str = "") -> Image.Image:
    if "transparency" not in image.info and image.mode not in ("RGBA", "LA", "PA"):
        return image
    alpha = np.array(image.convert("RGBA"))[..., 3]
    if alpha.min() < 255:
        share = 100 * (alpha < 255).mean()
        raise DataError(f"{path}: {share:.1f} % of the pixels are transparent; save it without transparency{other}")
    return image.convert("L" if image.mode == "LA" else "RGB")
