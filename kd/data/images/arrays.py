"""Images as arrays of numbers: `.npy`, and TIFF files of several channels or of more than 8 bits."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.errors import DataError
from kd.files.reading import check_file

ARRAY = ".npy"
TIFF = (".tif", ".tiff")
MAX_CHANNELS = 64
NUMBERS = "buif"  # the kinds of NumPy types that are read


class Shape(NamedTuple):
    """The shape of an array that is an image."""

    height: int
    width: int
    channels: int
    first: bool  # whether the channels are the first axis, else the last


def shape_of(path: Path, shape: Sequence[int], kind: str) -> Shape:
    """How an array is an image: (H, W); or three axes, of which the shorter of the first and the last is the channels.

    Raises:
        DataError: it is none. Names the file.
    """
    if kind not in NUMBERS or len(shape) not in (2, 3) or not all(shape):
        raise DataError(f"{path}: an array of shape {tuple(shape)} is no image; save numbers as (H, W, C) or (C, H, W)")
    if len(shape) == 2:
        return Shape(shape[0], shape[1], 1, False)
    first = shape[0] < shape[2]
    height, width, channels = (shape[1], shape[2], shape[0]) if first else (shape[0], shape[1], shape[2])
    if channels > MAX_CHANNELS:
        raise DataError(f"{path}: {channels} channels, of at most {MAX_CHANNELS} that are read")
    return Shape(height, width, channels, first)


def array_shape(path: Path) -> Shape:
    """The shape of a `.npy` file, from its header.

    Raises:
        DataError: the file is missing or holds no image. Names the file.
    """
    shape: Shape = _with_file(path, lambda file: _header(path, file))
    return shape


def read_array(path: Path) -> NDArray[Any]:
    """The numbers (H, W, C) of a `.npy` file, whose header has been read.

    Raises:
        DataError: the file is missing, damaged or holds no image. Names the file.
    """
    shape = array_shape(path)
    values = _with_file(path, lambda file: np.load(file, allow_pickle=False))
    return _channels_last(values, shape)


def tiff_shape(path: Path) -> Shape | None:
    """The shape of a TIFF file as tifffile reads it; None where tifffile is not installed.

    Raises:
        DataError: the file is missing or holds no image. Names the file.
    """
    tifffile = _tifffile()
    return None if tifffile is None else _with_file(path, lambda file: _tiff_header(path, tifffile, file))


def read_tiff(path: Path) -> NDArray[Any] | None:
    """The numbers (H, W, C) of a TIFF file; None where tifffile is not installed.

    Raises:
        DataError: the file is missing, damaged or holds no image. Names the file.
    """
    tifffile, shape = _tifffile(), tiff_shape(path)
    if tifffile is None or shape is None:
        return None
    return _channels_last(_with_file(path, tifffile.imread), shape)


def _header(path: Path, file: BinaryIO) -> Shape:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape_of(path, shape, dtype.kind)


def _tiff_header(path: Path, tifffile: Any, file: BinaryIO) -> Shape:
    with tifffile.TiffFile(file) as tiff:
        series = tiff.series[0]
        return shape_of(path, series.shape, series.dtype.kind)


def _channels_last(values: NDArray[Any], shape: Shape) -> NDArray[Any]:
    return np.moveaxis(values, 0, 2) if shape.first else values.reshape(shape.height, shape.width, shape.channels)


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError:
        return None
    return tifffile


def _with_file(path: Path, call: Callable[[BinaryIO], Any]) -> Any:
    """What `call` reads from a file; whatever it raises about a damaged one is the data's error."""
    check_file(path, "an image", DataError)
    try:
        with path.open("rb") as file:
            return call(file)
    except DataError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{path}: cannot be read as an array: {reason}") from error
