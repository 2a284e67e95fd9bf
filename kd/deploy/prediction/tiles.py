"""Predict an image at its own size in tiles that overlap: the memory does not grow with classes times pixels."""

from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kd.scoring import at_size

ALIGNED = 32  # pixels: the coarsest stride; tiles begin at its multiples, so that their cells lie where the image's do

Predict = Callable[[Tensor], Tensor]  # images uint8 (N, C, H, W) to logits (N, K, h, w)


class _Place(NamedTuple):
    """A tile on one axis, and the pixels that are taken from it: those nearer to its middle than to another's."""

    start: int
    first: int
    end: int


def tile_size(size: tuple[int, int]) -> tuple[int, int]:
    """The next larger size whose sides are multiples of `ALIGNED`."""
    height, width = (-(-side // ALIGNED) * ALIGNED for side in size)
    return height, width


def predict_tiles(
    predict: Predict, image: Tensor, tile: tuple[int, int], *, batch: int, probabilities: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float16] | None]:
    """Predict an image in tiles that overlap by half; beyond its edges, it is continued by its last pixels.

    Args:
        predict: calls the network.
        image: uint8 (C, H, W).
        tile: (H, W), multiples of `ALIGNED`.
        batch: tiles at a time.
        probabilities: whether those of all classes are wanted too: they take K × H × W × 2 bytes.

    Returns:
        Classes (H, W), and probabilities (K, H, W) or None.
    """
    height, width = image.shape[1:]
    classes = np.empty((height, width), np.uint8)
    shares: NDArray[np.float16] | None = None
    places = ((row, column) for row in _places(height, tile[0]) for column in _places(width, tile[1]))
    while group := list(islice(places, batch)):
        images = torch.stack([_cut(image, row.start, column.start, tile) for row, column in group])
        for (row, column), maps in zip(group, predict(images), strict=True):
            rows, columns = (slice(place.first - place.start, place.end - place.start) for place in (row, column))
            full = at_size(maps, tile)[:, rows, columns]
            there = (slice(row.first, row.end), slice(column.first, column.end))
            classes[there] = full.max(0).indices.to("cpu", torch.uint8).numpy()
            if probabilities:
                shares = np.empty((len(full), height, width), np.float16) if shares is None else shares
                shares[:, *there] = full.softmax(0).to("cpu", torch.float16).numpy()
    return classes, shares


def _places(length: int, tile: int) -> Sequence[_Place]:
    """The tiles on an axis; the last one may reach beyond its end."""
    step = max(tile // 2 // ALIGNED * ALIGNED, ALIGNED)
    starts = list(range(0, length - tile + step, step)) if length > tile else [0]
    borders = [0, *((start + before + tile) // 2 for before, start in pairwise(starts)), length]
    return [_Place(start, *border) for start, border in zip(starts, pairwise(borders), strict=True)]


def _cut(image: Tensor, top: int, left: int, tile: tuple[int, int]) -> Tensor:
    part = image[:, top : top + tile[0], left : left + tile[1]]
    missing = (0, tile[1] - part.shape[2], 0, tile[0] - part.shape[1])
    return F.pad(part[None].float(), missing, "replicate")[0].to(torch.uint8) if any(missing) else part


def differing(predict: Predict, image: Tensor, tile: tuple[int, int], *, batch: int) -> tuple[float, tuple[int, int]]:
    """The share of pixels whose class changes where an image is predicted in tiles and not in one pass.

    It is measured on the upper left part of the image, of at most two tiles along each side; 0 where that is one tile.

    Returns:
        The share, and the size (H, W) of the part.
    """
    part = image[:, : 2 * tile[0], : 2 * tile[1]]
    size = (part.shape[1], part.shape[2])
    if size[0] <= tile[0] and size[1] <= tile[1]:
        return 0.0, size
    whole, _ = predict_tiles(predict, part, tile_size(size), batch=1, probabilities=False)
    tiled, _ = predict_tiles(predict, part, tile, batch=batch, probabilities=False)
    return float((whole != tiled).mean()), size
