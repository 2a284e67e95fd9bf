"""What losses on pairs share: unit vectors, means by segment, and sums that never hold all pairs at once."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

TILE = 2**22  # elements of the largest matrix held at a time: 16 MiB in float32, within reach of a CPU's cache


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Each vector by its Euclidean length; a vector of zeros stays zero and gets no gradient.

    Division by a small number in its place would send such a vector, common behind a ReLU, a gradient of 1e12.
    """
    return vectors / or_infinity(torch.linalg.vector_norm(vectors, dim=dim, keepdim=True))


def or_infinity(lengths: Tensor) -> Tensor:
    """Lengths to divide by: what is divided by a length of 0 becomes 0, and so does its gradient."""
    return lengths.where(lengths > 1e-12, torch.inf)


def pixel_rows(maps: Tensor) -> Tensor:
    """(N, C, h, w) as one vector per pixel, (N, h·w, C)."""
    return maps.flatten(2).transpose(1, 2)


def pooled(maps: Tensor, valid: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The mean of the valid pixels in each window of side × side, and which windows have one.

    Args:
        maps: (N, C, h, w).
        valid: bool (N, h, w).
        side: in pixels; the last windows are narrower where it does not divide the size.

    Returns:
        (N, C, ⌈h/side⌉, ⌈w/side⌉), zeros where a window has no valid pixel; bool without the channels.
    """
    if side == 1:
        return maps.where(valid[:, None], 0), valid
    share = F.avg_pool2d(valid[:, None].to(maps.dtype), side, ceil_mode=True)
    mean = F.avg_pool2d(maps.where(valid[:, None], 0), side, ceil_mode=True) / share.where(share > 0, 1)
    return mean, share[:, 0] > 0


def segment_means(rows: Tensor, segments: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The mean row of each segment, in one pass over the rows.

    Args:
        rows: (R, C).
        segments: int64 (R,), 0 … number-1.
        number: S, how many segments there are.

    Returns:
        (S, C), zeros for a segment without rows; rows by segment (S,), an integer type.
    """
    sums = rows.new_zeros(number, rows.shape[1]).index_add(0, segments, rows)
    counts = segments.new_zeros(number).index_add(0, segments, torch.ones_like(segments))
    return sums / counts.clamp(min=1)[:, None], counts


def summed_in_tiles(part: Callable[[int, int], Tensor], rows: int, columns: int) -> Tensor:
    """Σ part(start, stop) over slices of the rows, each so narrow that slice × columns stays within TILE.

    With more than one slice, each is computed again in the backward pass: what autograd keeps is bounded, too.

    Args:
        part: gives a scalar for the rows from `start` up to `stop`.
        rows: how many rows the matrix of pairs has.
        columns: elements of one row.
    """
    step = max(1, TILE // columns)
    if step >= rows:
        return part(0, rows)
    total = part(0, 0)  # a zero of the right type
    for start in range(0, rows, step):
        total = total + checkpoint(part, start, min(start + step, rows), use_reentrant=False, preserve_rng_state=False)
    return total


def shuffled(draw: Tensor, number: int) -> Tensor:
    """`number` pseudo-random integers in 0 … 2³² - 1 that depend on `draw` alone.

    No generator: its state cannot live in a buffer, and a compiled graph does not take it. A count of the draws can,
    and so a resumed run draws what the uninterrupted one would have drawn, on every device.

    Args:
        draw: int64 scalar, another number for every draw.
        number: how many.

    Returns:
        int64 (number,).
    """
    low = 0xFFFFFFFF
    bits = (torch.arange(number, device=draw.device) + draw * 0x9E3779B1) & low
    for shift, factor in ((16, 0x7FEB352D), (15, 0x45D9F3B)):
        bits = ((bits ^ (bits >> shift)) * factor) & low
    return bits ^ (bits >> 16)
