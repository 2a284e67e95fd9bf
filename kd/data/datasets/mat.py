"""Masks in MATLAB files, as the Semantic Boundaries Dataset (SBD) has them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from torch import Tensor

from kd.data.images.decode import MAX_PIXELS
from kd.data.masks.encoding import Coded, labels_of
from kd.data.masks.meaning import Meaning
from kd.errors import DataError
from kd.files.reading import read_bytes

MAX_FILE = 16_000_000  # bytes; those of SBD have some thousand
_HEADER = 128  # bytes before the first element
_COMPRESSED = 15  # the type of an element that is compressed


def read_mat(path: Path, meaning: Meaning, turn: int) -> Tensor:
    """Read the labels uint8 (H, W) from `GTcls.Segmentation` of a MATLAB 5 file; `turn` is without meaning here.

    Raises:
        DataError: the file cannot be read, is damaged, too large when it is unpacked, or holds something else.
    """
    from scipy.io import loadmat

    content = read_bytes(path, "a mask of SBD", DataError, limit=MAX_FILE)
    try:
        _refuse_large(content)
        values = np.asarray(loadmat(io.BytesIO(content), variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0])
    except Exception as error:  # damaged files raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read as a mask of SBD (GTcls.Segmentation in a MATLAB file): {reason}"
        ) from error
    if values.dtype != np.uint8 or values.ndim != 2:
        raise DataError(f"{path}: GTcls.Segmentation is {values.dtype} {values.shape}, not uint8 (H, W)")
    return labels_of(Coded(np.ascontiguousarray(values), None), meaning, path)


def _refuse_large(content: bytes) -> None:
    """Unpack every compressed element up to a limit: a small file may stand for gigabytes."""
    order = ">" if content[_HEADER - 2 : _HEADER] == b"MI" else "<"
    start, total = _HEADER, 0
    while start + 8 <= len(content):
        kind, length = struct.unpack(f"{order}II", content[start : start + 8])
        if kind == _COMPRESSED:
            total += len(zlib.decompressobj().decompress(content[start + 8 : start + 8 + length], 2 * MAX_PIXELS))
        if total >= 2 * MAX_PIXELS:
            raise ValueError(f"more than {2 * MAX_PIXELS} bytes when it is unpacked")
        start += 8 + length
