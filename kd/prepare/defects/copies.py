"""What is remembered of every image of a split, so that images and masks can be compared with each other."""

from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.data.dataset import read
from kd.data.transforms.sampling import Frame, sample_labels
from kd.errors import DataError
from kd.types import IGNORE, SegmentationDataset, resize

GRID = 96  # cells on a side of the small copies
TONES, CONTRASTS, CHROMAS = 8, 3, 4  # steps of a cell's grey level, of its contrast and of each of its two hues
CODES = TONES * CONTRASTS * CHROMAS * CHROMAS


class Look(NamedTuple):
    """An image and its labels, in small."""

    name: str
    size: tuple[int, int]  # (H, W)
    image: bytes  # digest of the pixels
    mask: bytes  # digest of the labels; empty without labels
    spread: float  # standard deviation of the shades, of the channel with the largest
    colored: bool
    counts: NDArray[np.int64]  # (256,), pixels of each label
    codes: NDArray[np.uint16]  # (GRID, GRID), 0 … CODES-1: tone, contrast and hue of each cell
    edges: NDArray[np.uint8]  # (GRID, GRID): the slope of the grey level, 64 being the image's mean
    labels: NDArray[np.uint8]  # (GRID, GRID)

    @property
    def classes(self) -> NDArray[np.intp]:
        """The classes that occur."""
        return self.counts[:IGNORE].nonzero()[0]


class Unreadable(NamedTuple):
    """A sample that cannot be read."""

    text: str


class Looks:
    """The look of each sample of a dataset, for `kd.data.workers.Reader`.

    Args:
        dataset: one split.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Look | Unreadable:
        try:
            image, labels, name = read(self.dataset, *key)
        except DataError as error:
            return Unreadable(str(error))
        return look(image, labels, name)


def look(image: Tensor, labels: Tensor | None, name: str) -> Look:
    """Look at an image uint8 (C, H, W) and its labels uint8 (H, W)."""
    size = (image.shape[1], image.shape[2])
    known = labels if labels is not None else torch.full(size, IGNORE, dtype=torch.uint8)
    colored = image.shape[0] == 3 and bool((image[0] != image[1]).any() or (image[0] != image[2]).any())
    small = resize(image[None].float(), (GRID, GRID))[0].numpy()  # (C, GRID, GRID)
    grey = small.mean(0)
    down, right = np.gradient(grey)
    slope = np.hypot(down, right)
    slope = np.minimum(slope / max(float(slope.mean()), 1e-6), 255 / 64)
    return Look(
        name=name,
        size=size,
        image=_digest(image),
        mask=b"" if labels is None else _digest(labels),
        spread=float(image.float().flatten(1).std(1, correction=0).max()),
        colored=colored,
        counts=np.bincount(known.numpy().ravel(), minlength=256),
        codes=_codes(small, grey, slope),
        edges=np.round(64 * slope).astype(np.uint8),
        labels=sample_labels(known, Frame.of(size, (GRID, GRID))).numpy(),
    )


def _codes(small: NDArray[np.float32], grey: NDArray[np.float32], slope: NDArray[np.float32]) -> NDArray[np.uint16]:
    tones = np.clip(grey * TONES / 256, 0, TONES - 1).astype(np.uint16)
    contrasts = np.digitize(slope, (0.5, 1.5)).astype(np.uint16)
    hues = np.zeros((2, GRID, GRID), np.uint16)
    if len(small) == 3:
        hues[:] = [np.digitize(small[side] - small[1], (-24, 0, 24)) for side in (0, 2)]
    return np.asarray(((tones * CONTRASTS + contrasts) * CHROMAS + hues[0]) * CHROMAS + hues[1], np.uint16)


def _digest(pixels: Tensor) -> bytes:
    return blake2b(pixels.contiguous().numpy().tobytes() + str(tuple(pixels.shape)).encode(), digest_size=16).digest()
