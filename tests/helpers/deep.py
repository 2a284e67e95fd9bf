"""PNG files of 16 bits per channel, which Pillow does not write in colour."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG's number


def write_deep(path: Path, values: NDArray[np.uint16]) -> None:
    """Write (H, W, C) as it is; the second of two channels, and the fourth, is the opacity."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, COLOR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
