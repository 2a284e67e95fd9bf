"""Images whose numbers are no shades of 0 … 255: a stated range is brought to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.data.images.arrays import ARRAY, MAX_CHANNELS, TIFF, read_array, read_tiff
from kd.data.images.decode import decoded, holds_all, opened, read_header
from kd.errors import DataError

Range = tuple[float, float]  # the numbers that become 0 and 255
Given = Sequence[float] | Sequence[Sequence[float]] | None  # in a recipe: one range, or one per channel


def check_ranges(ranges: Given, channels: int) -> tuple[Range, ...] | None:
    """The range of each channel; None if none is stated.

    Raises:
        ValueError: they are no ranges, or not one for each channel.
    """
    if ranges is None:
        return None
    rows = list(ranges) if any(isinstance(part, (list, tuple)) for part in ranges) else [ranges] * channels
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"channels must be 1 … {MAX_CHANNELS}, got {channels}")
    if len(rows) != channels:
        raise ValueError(f"ranges has {len(rows)} ranges for {channels} channels; give one, or one for each")
    found = []
    for row in rows:
        if not (isinstance(row, (list, tuple)) and len(row) == 2 and all(type(n) in (int, float) for n in row)):
            raise ValueError(f"ranges must be [low, high], or one such pair for each channel, got {row}")
        low, high = row
        if not -np.inf < low < high < np.inf:
            raise ValueError(f"ranges: low must be below high, got {list(row)}")
        found.append((float(low), float(high)))
    return tuple(found)


def steps_note(ranges: Sequence[Range]) -> str:
    """A line for the user: how coarse the numbers are that networks see."""
    steps = sorted({(high - low) / 255 for low, high in ranges})
    of = f"{ranges[0][0]:g} … {ranges[0][1]:g}" if len(set(ranges)) == 1 else "the range of each channel"
    size = " to ".join(f"{step:.3g}" for step in (steps if len(steps) == 1 else (steps[0], steps[-1])))
    return f"images: {of} becomes 0 … 255 in steps of {size}: networks see 8 bits, whatever the files hold"


def read_in_ranges(path: Path, ranges: Sequence[Range]) -> Tensor:
    """Read an image of any numbers as uint8 (C, H, W): each channel's range becomes 0 … 255, and what is outside too.

    Args:
        path: a `.npy` file, a TIFF file, or any image file.
        ranges: of the channels; grey becomes equal channels where all have one range.

    Raises:
        DataError: the file cannot be read, has another number of channels, or a number that is none (NaN). Names it.
    """
    values = _values(path)  # (H, W, C)
    channels = values.shape[2]
    if channels == 1 and len(set(ranges)) == 1:
        values = values.repeat(len(ranges), 2)
    elif channels != len(ranges):
        raise DataError(
            f"{path}: {channels} channels, but channels is {len(ranges)}; train with channels: {channels}, or save it "
            f"with {len(ranges)}"
        )
    low, high = np.array(ranges, np.float32).T
    shades = (values.astype(np.float32) - low) * (np.float32(255) / (high - low))
    if bool(np.isnan(shades).any()):
        row, column, channel = np.argwhere(np.isnan(shades))[0].tolist()
        raise DataError(f"{path}: NaN at row {row}, column {column}, channel {channel}; write a number there")
    return torch.from_numpy(shades.round().clip(0, 255).astype(np.uint8)).permute(2, 0, 1).contiguous()


def _values(path: Path) -> NDArray[Any]:
    """The numbers (H, W, C) of a file."""
    read_header(path)  # of no more pixels than one may have
    suffix = path.suffix.lower()
    if suffix == ARRAY:
        return read_array(path)
    if not _is_whole(path):
        values = read_tiff(path) if suffix in TIFF else None
        if values is None:
            other = "pip install 'kd-segmentation[tiff]'" if suffix in TIFF else "save it as .npy or TIFF"
            raise DataError(f"{path}: Pillow reads a part of its numbers; {other}")
        return values
    image = decoded(path)[0]
    values = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    return values.reshape(*values.shape[:2], -1)


def _is_whole(path: Path) -> bool:
    """Whether Pillow reads all numbers of an image: no further pages or channels, no bits cut off."""
    try:
        with opened(path) as image:
            return getattr(image, "n_frames", 1) == 1 and holds_all(image)
    except DataError:
        return False
