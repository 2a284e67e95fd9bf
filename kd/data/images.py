"""Images and masks decoded by Pillow alone: torchvision's decoder crashes the process on a damaged PNG."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kd.errors import DataError
from kd.reading import check_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 64 * 2**20
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # no others: Pillow runs Ghostscript for some
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


def read_image(path: Path, channels: int) -> Tensor:
    """Read an image as uint8 (channels, H, W).

    Grey becomes three equal channels if `channels` is 3; three equal channels become one if it is 1; palettes are
    looked up; an opaque alpha channel is dropped.

    Args:
        path: a PNG, JPEG, BMP, TIFF or WebP file with 8 bits per channel.
        channels: 1 or 3.

    Raises:
        DataError: the file cannot be read, is damaged, too large, rotated by an EXIF tag, partly transparent, has more
            than 8 bits per channel, or is in colour although `channels` is 1. Names the file.
    """
    image = _without_alpha(path, _decoded(path))
    if image.mode not in ("1", "L", "P", "RGB"):
        raise DataError(
            f"{path}: unsupported pixel mode {image.mode}; save it as 8-bit grey or RGB, scaled as you need"
        )
    if image.mode in ("1", "L"):
        grey = np.array(image.convert("L"))
        return torch.from_numpy(grey).expand(channels, -1, -1).contiguous()
    pixels = np.array(image.convert("RGB"))  # (H, W, 3)
    if channels == 3:
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    if not is_grey(pixels):
        row, column = np.argwhere((pixels != pixels[..., :1]).any(-1))[0].tolist()
        raise DataError(
            f"{path}: channels is 1, but the image is in colour: {tuple(pixels[row, column].tolist())} at row {row}, "
            f"column {column}; set channels: 3"
        )
    return torch.from_numpy(pixels[None, ..., 0].copy())


def read_mask(path: Path) -> NDArray[Any]:
    """Read a mask as stored: integers (H, W), or RGB uint8 (H, W, 3).

    Palette masks give their indices, 1-bit masks give 0 and 255.

    Raises:
        DataError: the file cannot be read, is damaged, too large, rotated by an EXIF tag, partly transparent, does not
            hold integers, or is a JPEG, whose compression changes values. Names the file.
    """
    image = _decoded(path)
    if image.format == "JPEG":
        raise DataError(f"{path}: JPEG changes labels; use the original mask, saved as PNG")
    if image.mode != "P":
        image = _without_alpha(path, image)  # the transparency of a palette does not affect its indices
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "P", "RGB", "I") and not image.mode.startswith("I;16"):
        raise DataError(
            f"{path}: unsupported pixel mode {image.mode} for a mask; save it as PNG with indices, a palette or RGB"
        )
    return np.array(image)


def is_grey(pixels: NDArray[Any]) -> bool:
    """Whether the three channels of RGB (H, W, 3) are equal everywhere."""
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header alone.

    Raises:
        DataError: the header cannot be read.
    """
    with _opened(path) as image:
        return image.height, image.width


def size_text(size: Iterable[int]) -> str:
    """(height, width) as messages show it, width first."""
    height, width = size
    return f"{width}×{height}"


def _opened(path: Path) -> Image.Image:
    check_file(path, "an image", DataError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is lower
            image = Image.open(path, formats=_FORMATS)
    except Exception as error:  # damaged files raise nearly anything
        raise DataError(f"{path}: cannot be read as an image: {_reason(error)}") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        size = size_text((image.height, image.width))
        raise DataError(f"{path}: {size} pixels; the limit is {MAX_PIXELS} in total; cut the image into tiles")
    return image


def _decoded(path: Path) -> Image.Image:
    try:
        with _opened(path) as image:
            image.verify()  # PNG checksums, which decoding does not check; Pillow needs the file reopened afterwards
        with _opened(path) as image:
            image.load()
            orientation, frames = image.getexif().get(_ORIENTATION, 1), getattr(image, "n_frames", 1)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: damaged: {_reason(error)}") from error
    if orientation not in (0, 1):
        raise DataError(f"{path}: rotated by its EXIF tag only (orientation {orientation}); save it upright")
    if frames > 1:
        raise DataError(f"{path}: {frames} images in one file; save each in its own file")
    return image


def _without_alpha(path: Path, image: Image.Image) -> Image.Image:
    if "transparency" not in image.info and image.mode not in ("RGBA", "LA", "PA"):
        return image
    alpha = np.array(image.convert("RGBA"))[..., 3]
    if alpha.min() < 255:
        share = 100 * (alpha < 255).mean()
        raise DataError(f"{path}: {share:.1f} % of the pixels are transparent; save it without transparency")
    return image.convert("L" if image.mode == "LA" else "RGB")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
