"""PNG files of 16 bits per channel, and kinds of TIFF, which Pillow does not write."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = {"u": 1, "i": 2, "f": 3}  # NumPy's -> TIFF's
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG's number


def write_deep(path: Path, values: NDArray[np.uint16]) -> None:
    """Write (H, W, C) as it is; the second of two channels, and the fourth, is the opacity."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, COLOR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks))


def write_tiff(
    path: Path, values: NDArray[Any], *, planes: bool = False, order: str = "<", packed: bool = False
) -> None:
    """Write (H, W, C) in one strip, or one for each channel; further channels are of no stated meaning."""
    height, width, channels = values.shape
    of_strips = np.split(values, channels, 2) if planes else [values]
    strips = [strip.astype(values.dtype.newbyteorder(order)).tobytes() for strip in of_strips]  # type: ignore[arg-type]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    starts = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    colors = 3 if channels >= 3 else 1
    tags = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [8 * values.dtype.itemsize] * channels),
        259: ("H", [8 if packed else 1]),  # Deflate
        262: ("H", [2 if colors == 3 else 1]),
        273: ("I", starts),
        277: ("H", [channels]),
        278: ("I", [height]),
        279: ("I", [*map(len, strips)]),
        284: ("H", [1 + planes]),
        **({338: ("H", [0] * (channels - colors))} if channels > colors else {}),
        339: ("H", [KINDS[values.dtype.kind]] * channels),
    }
    body = b"".join(strips)
    after = 8 + len(body) + 2 + 12 * len(tags) + 4
    entries = further = b""
    for tag, (kind, numbers) in tags.items():
        content = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        place = content.ljust(4, b"\0")
        if len(content) > 4:
            place, further = struct.pack(f"{order}I", after + len(further)), further + content
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(numbers)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    path.write_bytes(head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + further)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
