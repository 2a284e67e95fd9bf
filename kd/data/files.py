"""Images and masks from files, with Pillow alone: torchvision's decoder takes the process down on a damaged PNG."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kd.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MOST_PIXELS = 64 * 2**20
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # no others: Pillow runs Ghostscript for some
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


def read_image(path: Path, channels: int) -> Tensor:
    """An image as uint8 (channels, H, W).

    Grey becomes three equal channels where 3 are wanted; three equal channels become one where 1 is wanted; palettes
    are looked up; an alpha channel is dropped where it is opaque.

    Args:
        path: a PNG, JPEG, BMP, TIFF or WebP file of 8 bits a channel.
        channels: 1 or 3.

    Raises:
        DataError: the file cannot be read, is damaged, too large, rotated by an EXIF tag, partly transparent, of more
            than 8 bits, or in colour where one channel is wanted. Names the file.
    """
    image = _opaque(path, _decoded(path))
    if image.mode not in ("1", "L", "P", "RGB"):
        raise DataError(f"{path}: pixels of kind {image.mode}; save it as 8-bit grey or RGB, scaled as you need")
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
            f"column {column}; write channels: 3"
        )
    return torch.from_numpy(pixels[None, ..., 0].copy())


def read_mask(path: Path) -> NDArray[Any]:
    """A mask as its file holds it: integers (H, W), or RGB uint8 (H, W, 3).

    Palette masks give their indices, masks of 1 bit give 0 and 255.

    Raises:
        DataError: the file cannot be read, is damaged, too large, rotated by an EXIF tag, partly transparent, not of
            integers, or a JPEG, which changes values. Names the file.
    """
    image = _decoded(path)
    if image.format == "JPEG":
        raise DataError(f"{path}: a mask in JPEG: compression changes labels; take the original, as PNG")
    if image.mode != "P":
        image = _opaque(path, image)  # transparency of a palette says nothing about its indices
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "P", "RGB", "I") and not image.mode.startswith("I;16"):
        raise DataError(f"{path}: a mask with pixels of kind {image.mode}; save it as PNG: indices, palette or RGB")
    return np.array(image)


def is_grey(pixels: NDArray[Any]) -> bool:
    """Whether the three channels of RGB (H, W, 3) are equal everywhere."""
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) by the file's header alone.

    Raises:
        DataError: the header cannot be read.
    """
    with _opened(path) as image:
        return image.height, image.width


def size_text(size: Iterable[int]) -> str:
    """(height, width) as people write it, width first."""
    height, width = size
    return f"{width}×{height}"


def listed(folder: Path, root: Path, suffix: str = "", *, follow_links: bool = False) -> dict[str, Path]:
    """The images in a folder by stem, in order of name.

    Args:
        folder: where to look; not into folders below it.
        root: what links must not lead out of.
        suffix: an ending of the stems that is cut off; stems without it are left out.
        follow_links: let links lead out of `root`.

    Raises:
        DataError: there is no such folder; two files share a stem; a link leads out of `root`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {there(folder)}")
    inside = root.resolve()
    if not follow_links and not folder.resolve().is_relative_to(inside):
        raise DataError(_leads_out(folder, root))
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = path.stem
        if path.suffix.lower() not in SUFFIXES or not stem.endswith(suffix) or path.name.startswith("."):
            continue
        stem = stem.removesuffix(suffix)
        if stem in found:
            raise DataError(f"{path}: the same stem as {found[stem].name}; keep one of the two")
        if not follow_links and path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise DataError(_leads_out(path, root))
        found[stem] = path
    return found


def there(folder: Path) -> str:
    """What is where `folder` was looked for."""
    parent = folder
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in parent.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{parent} holds {', '.join(names[:8]) or 'nothing'}{more}"


def list_entries(path: Path) -> list[str]:
    """The stems that a list file names, one a line; of "image mask" lines the image's.

    Entries are names to look up, never paths to follow.

    Raises:
        DataError: the file cannot be read as text; a name comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a list of names: {error}") from error
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name = line.split()[0].replace("\\", "/").rpartition("/")[2]
        stem = Path(name).stem if name.lower().endswith(SUFFIXES) else name
        if stem in first:
            raise DataError(f"{path}:{number}: {_short(stem)} stands in line {first[stem]} already")
        first[stem] = number
    return list(first)


def paired(
    images: Mapping[str, Path], masks: Mapping[str, Path], folders: tuple[Path, Path]
) -> dict[str, tuple[Path, Path]]:
    """Images and masks of the same stem and size, by stem.

    Args:
        images: stem -> file.
        masks: stem -> file.
        folders: of the images and of the masks, for the message.

    Raises:
        DataError: one has no other; sizes differ. One line each, ten at most.
    """
    problems = [f"{path}: no mask named {stem} in {folders[1]}" for stem, path in images.items() if stem not in masks]
    problems += [f"{path}: no image named {stem} in {folders[0]}" for stem, path in masks.items() if stem not in images]
    pairs = {stem: (path, masks[stem]) for stem, path in images.items() if stem in masks}
    for image, mask in pairs.values():
        try:
            sizes = image_size(image), image_size(mask)
        except DataError as error:
            problems.append(str(error))
            continue
        if sizes[0] != sizes[1]:
            problems.append(
                f"{image}: {size_text(sizes[0])}, but its mask {mask} is {size_text(sizes[1])} (width × height); "
                "make the mask the image's size"
            )
    raise_all(problems)
    return pairs


def raise_all(problems: list[str]) -> None:
    """Raise all lines as one DataError, if there are any; behind ten of them their number is enough."""
    if problems:
        more = [f"and {len(problems) - 10} more of this kind"] if len(problems) > 10 else []
        raise DataError("\n".join(problems[:10] + more))


def _opened(path: Path) -> Image.Image:
    if not path.is_file():
        raise DataError(f"{path}: {'a folder, not an image' if path.is_dir() else 'no such file'}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            image = Image.open(path, formats=_FORMATS)
    except Exception as error:  # damaged files raise nearly anything
        raise DataError(f"{path}: cannot be read as an image: {_reason(error)}") from error
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise DataError(
            f"{path}: {size_text((image.height, image.width))} pixels, at most {MOST_PIXELS} are read; cut it up"
        )
    return image


def _decoded(path: Path) -> Image.Image:
    try:
        with _opened(path) as image:
            image.verify()  # PNG's checksums, which decoding alone does not look at; the image is of no use after it
        with _opened(path) as image:
            image.load()
            orientation, frames = image.getexif().get(_ORIENTATION, 1), getattr(image, "n_frames", 1)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: damaged: {_reason(error)}") from error
    if orientation not in (0, 1):
        raise DataError(f"{path}: EXIF orientation {orientation} shows it turned, its pixels are not; save it upright")
    if frames > 1:
        raise DataError(f"{path}: {frames} images in one file; save one a file")
    return image


def _opaque(path: Path, image: Image.Image) -> Image.Image:
    if "transparency" not in image.info and image.mode not in ("RGBA", "LA", "PA"):
        return image
    alpha = np.array(image.convert("RGBA"))[..., 3]
    if alpha.min() < 255:
        share = 100 * (alpha < 255).mean()
        raise DataError(f"{path}: {share:.1f} % of the pixels are transparent; save it without transparency")
    return image.convert("L" if image.mode == "LA" else "RGB")


def _leads_out(path: Path, root: Path) -> str:
    return f"{path}: a link that leads out of {root}; name the real folder as root (or, of Folders, follow_links: true)"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
