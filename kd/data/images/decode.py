"""Image files opened by Pillow alone, turned upright: torchvision's decoder crashes the process on a damaged PNG."""

import io
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from kd.data.images.arrays import ARRAY, TIFF, Shape, array_shape, tiff_shape
from kd.data.images.png import checksums_hold, png_header
from kd.errors import DataError
from kd.files.reading import check_file

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".jp2",
)  # fmt: skip
MAX_PIXELS = 64 * 2**20
NUMBERS_PER_PIXEL = 4  # of an array: an image of more channels has fewer pixels
UPRIGHT = 1
# no others: Pillow runs Ghostscript for some; JPEG includes MPO
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000")
_LOSSY = {
    "JPEG": "JPEG",
    "MPO": "JPEG",
    "AVIF": "AVIF",
    "JPEG2000": "JPEG 2000",
}  # JPEG 2000 may be lossless, but no header shows it
_LOSSY_TIFF = {
    "jpeg": "JPEG in TIFF",
    "tiff_jpeg": "JPEG in TIFF",
    "webp": "WebP in TIFF",
    "tiff_sgilog": "LogLuv in TIFF",
    "tiff_sgilog24": "LogLuv in TIFF",
}
_BITS, _SAMPLES, _PLANES, _SAMPLE_FORMAT = 258, 277, 284, 339  # tags of TIFF
_SWAPPED = re.compile(r";\d+B")  # Pillow's raw modes of the other order of bytes, such as I;16BS
_FILTERS = threading.Lock()
_START = 2**16  # bytes of a JPEG 2000 file, in which the stream of its pixels begins
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Held(NamedTuple):
    """An image file that is held in memory; messages call it by its name."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


Source = Path | Held


class Limit(NamedTuple):
    """How large an image may be."""

    pixels: int
    fix: str  # what to do with a larger one


class Header(NamedTuple):
    """What a file declares before its pixels are decoded."""

    size: tuple[int, int]  # (H, W) upright
    mode: str  # Pillow's, such as RGB; `RGB;16` where it keeps the upper bits of the channels alone
    turn: int  # EXIF orientation: UPRIGHT, or 2 … 8
    lossy: str  # the name of an encoding that changes values; empty if none


def read_header(path: Source, *, limit: Limit | None = None) -> Header:
    """Read the header of an image file.

    Args:
        path: the file.
        limit: None: `MAX_PIXELS`.

    Raises:
        DataError: the file is missing, no image, or too large. Names the file.
    """
    if isinstance(path, Path) and path.suffix.lower() == ARRAY:
        return _of_array(path, array_shape(path), limit)
    png = png_header(path) if isinstance(path, Path) else None
    if png is not None and png.size[0] * png.size[1] <= MAX_PIXELS:
        return Header(png.size, png.mode, UPRIGHT, "")
    try:
        with opened(path, limit=limit) as image:
            turn, mode = _turn(image), image.mode if is_whole(image) else f"{image.mode};16"
            return Header(turned((image.height, image.width), turn), mode, turn, _lossy(image, path))
    except DataError as error:
        if not isinstance(path, Path) or path.suffix.lower() not in TIFF:
            raise
        shape = tiff_shape(path)  # Pillow reads few kinds of TIFF
        if shape is None:
            raise DataError(
                f"{error}; of several channels: pip install 'kd-segmentation[tiff]', and state ranges"
            ) from error
        return _of_array(path, shape, limit)


def _of_array(path: Path, shape: Shape, limit: Limit | None) -> Header:
    _check_pixels(path, shape.height, shape.width, limit)
    _check_pixels(path, shape.height, -(-shape.width * shape.channels // NUMBERS_PER_PIXEL), limit)
    return Header((shape.height, shape.width), f"{shape.channels} channels", UPRIGHT, "")


def decoded(path: Source, turn: int = UPRIGHT, *, limit: Limit | None = None) -> tuple[Image.Image, str]:
    """Decode an image file, turned upright by its EXIF tag, and the name of its encoding if that is lossy.

    Args:
        path: the file.
        turn: EXIF orientation to assume for a file without one.
        limit: None: `MAX_PIXELS`.

    Raises:
        DataError: the file is missing, no image, too large, damaged, holds several images, or has more bits per channel
            than Pillow keeps; it is a TIFF file that Pillow misreads. Names the file.
    """
    try:
        with _file(path) as file:
            image = _image(file, path, limit)
            if image.format == "PNG" and not checksums_hold(file):  # decoding does not check them
                image.verify()  # raises; if it does not, Pillow must open the file again
                image = _image(file, path, limit)
            own, lossy, frames = _turn(image), _lossy(image, path), getattr(image, "n_frames", 1)
            if not is_whole(image):
                raise DataError(
                    f"{path}: more than 8 bits per channel, of which Pillow keeps 8; save it with 8 bits, scaled as "
                    "you need, or train with ranges on .npy images"
                )
            if is_misread(image):
                raise DataError(
                    f"{path}: Pillow misreads this kind of TIFF (its order of bytes); save it again, masks as PNG, "
                    "images as .npy, for which Folders has ranges"
                )
            image.load()
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: damaged: {_reason(error)}") from error
    if frames > 1 and image.format != "MPO":  # an MPO is a JPEG followed by previews
        raise DataError(f"{path}: {frames} images in one file; save each in its own file")
    method = _TURNS.get(turn if own == UPRIGHT else own)
    return image if method is None else image.transpose(method), lossy


@contextmanager
def opened(path: Source, *, limit: Limit | None = None) -> Iterator[Image.Image]:
    """Open an image file and read its header; it is not turned upright.

    Args:
        path: the file.
        limit: None: `MAX_PIXELS`.

    Raises:
        DataError: as `read_header`.
    """
    with _file(path) as file:
        yield _image(file, path, limit)


def is_whole(image: Image.Image) -> bool:
    """Whether Pillow keeps all bits of an opened image, not loaded yet: in colour it has 8 for each channel."""
    if image.format == "TIFF":
        return image.mode in ("I", "F") or image.mode.startswith("I;16") or max(_tag(image, _BITS, (1,))) <= 8
    if image.mode.startswith("I"):
        return True
    if image.format == "JPEG2000":
        return _bits_of_jpeg2000(image) <= 8
    return image.format == "BMP" or ";16" not in str(getattr(image, "tile", ""))  # a BMP of 16 bits has 5 or 6 each


def holds_all(image: Image.Image) -> bool:
    """Whether Pillow reads all numbers of an opened image, not loaded yet: all channels, and their signs."""
    if image.format != "TIFF":
        return is_whole(image)
    is_signed_byte = image.mode == "L" and max(_tag(image, _SAMPLE_FORMAT, (1,))) == 2
    channels = 1 if image.mode == "P" else len(image.getbands())
    return is_whole(image) and not is_misread(image) and not is_signed_byte and _tag(image, _SAMPLES, 1) == channels


def is_misread(image: Any) -> bool:
    """Whether Pillow takes the bytes of an opened TIFF file in a wrong order.

    It reads numbers of more than 8 bits in planes without their width, and swaps the bytes that libtiff has swapped.
    """
    if image.format != "TIFF" or not image.tile or max(_tag(image, _BITS, (1,))) <= 8:
        return False
    codec, _, _, (raw, *_) = image.tile[0]
    return _tag(image, _PLANES, 1) == 2 if codec == "raw" else bool(_SWAPPED.search(str(raw)))


def _tag(image: Any, tag: int, default: Any) -> Any:
    """A tag of a TIFF file."""
    return image.tag_v2.get(tag, default)


def _bits_of_jpeg2000(image: Any) -> int:
    """The bits of the first channel, from the start of the pixels' stream; 8 if there is none."""
    file = image.fp
    place = file.tell()
    file.seek(0)
    _, found, header = file.read(_START).partition(b"\xff\x4f\xff\x51")
    file.seek(place)
    return 1 + (header[38] & 0x7F) if found and len(header) > 38 else 8


def turned(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """(height, width) after an image is turned upright from an EXIF orientation."""
    return (size[1], size[0]) if turn >= 5 else size


def size_text(size: Iterable[int]) -> str:
    """(height, width) as messages show it, width first."""
    height, width = size
    return f"{width}×{height}"


def _file(path: Source) -> BinaryIO:
    if isinstance(path, Held):
        return io.BytesIO(path.content)
    # not by its path: Pillow would map an uncompressed TIFF into memory and turn it wrong
    check_file(path, "an image", DataError)
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _image(file: BinaryIO, path: Source, limit: Limit | None = None) -> Image.Image:
    """Open an image file and read its header."""
    file.seek(0)
    try:
        with _without_warnings():  # of damaged metadata; and of bombs, but MAX_PIXELS is lower
            image = Image.open(file, formats=_FORMATS)
    except Exception as error:  # damaged files raise nearly anything
        reason = _reason(error).replace(f" {file!r}", "")
        raise DataError(f"{path}: cannot be read as an image: {reason}") from error
    _check_pixels(path, image.height, image.width, limit)
    return image


def _check_pixels(path: Source, height: int, width: int, limit: Limit | None) -> None:
    most = limit or Limit(MAX_PIXELS, "cut the image into tiles with kd tiles")
    if width * height > most.pixels:
        size = size_text((height, width))
        raise DataError(f"{path}: {size} pixels; the limit is {most.pixels} in total; {most.fix}")


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore warnings in the block, which one thread enters at a time: all share the list of filters."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _turn(image: Image.Image) -> int:
    """The EXIF orientation of an opened file, before it is loaded."""
    if image.format == "TIFF":  # Pillow turns it
        return UPRIGHT
    if image.format == "PNG" and not {"exif", "XML:com.adobe.xmp"} & image.info.keys():  # would decode the pixels
        return UPRIGHT
    try:
        with _without_warnings():  # of damaged metadata
            turn = image.getexif().get(_ORIENTATION, UPRIGHT)
    except Exception:  # noqa: BLE001  # viewers show a file with damaged metadata as it is stored
        return UPRIGHT
    return turn if turn in _TURNS else UPRIGHT


def _lossy(image: Image.Image, path: Source) -> str:
    if image.format == "WEBP":
        return "lossy WebP" if _is_lossy_webp(path) else ""
    if image.format == "TIFF":
        return _LOSSY_TIFF.get(str(image.info.get("compression")), "")
    return _LOSSY.get(str(image.format), "")


def _is_lossy_webp(path: Source) -> bool:
    """Whether the first picture of a WebP file is in the chunk `VP8 `, not `VP8L`."""
    with _file(path) as file:
        file.seek(12)  # RIFF, size, WEBP
        while len(head := file.read(8)) == 8:
            kind, length = head[:4], int.from_bytes(head[4:], "little")
            if kind in (b"VP8 ", b"VP8L"):
                return kind == b"VP8 "
            file.seek(16 if kind == b"ANMF" else length + length % 2, 1)  # a frame holds chunks of its own
    return True


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
