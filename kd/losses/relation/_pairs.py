"""What losses on pairs share: unit vectors, means by segment, and sums that never hold all pairs at once."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 2**22  # elements of the largest matrix held at a time: 16 MiB in float32, within reach of a CPU's cache


def pixel_rows(maps: Tensor) -> Tensor:
    """(N, C, h, w) as one vector per pixel, (N, h·w, C)."""
    return maps.flatten(2).transpose(1, 2)


def pooled(maps: Tensor, valid: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The mean of the valid pixels in each window of side × side, and which windows have one.

    Args:
        maps: (N, C, h, w), 0 at the pixels that are not valid.
        valid: bool (N, h, w).
        side: in pixels; the last windows are narrower where it does not divide the size.

    Returns:
        (N, C, ⌈h/side⌉, ⌈w/side⌉), zeros where a window has no valid pixel; bool without the channels.
    """
    if side == 1:
        return maps, valid
    share = F.avg_pool2d(valid[:, None].to(maps.dtype), side, ceil_mode=True)
    mean = F.avg_pool2d(maps, side, ceil_mode=True) / share.where(share > 0, 1)
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


def summed_in_tiles(part: Callable[[Tensor, Tensor, slice, int], Tensor], rows: Tensor, *groups: Tensor) -> Tensor:
    """Σ part(rows[tile], nodes, tile, g) over groups of nodes and slices of the rows that hold TILE pairs at most.

    Where that is more than one slice, its gradient is taken as soon as its value is known: what a slice computed is
    neither kept for the backward pass nor computed again in it. The result has no second derivative.

    Args:
        part: gives a scalar for some of the rows, the nodes of one group, the slice that says which rows they are, and
            the group's number.
        rows: (..., R, C), sliced along R.
        groups: nodes (..., Q, C), of one shape; all learn or none does.
    """
    number, columns = rows.shape[-2], groups[0][..., 0].numel()
    if number * columns * len(groups) <= TILE:
        return torch.stack([part(rows, nodes, slice(0, number), g) for g, nodes in enumerate(groups)]).sum()
    step = max(1, TILE // columns)
    tiles = [slice(start, min(start + step, number)) for start in range(0, number, step)]
    learning = torch.is_grad_enabled() and rows.requires_grad
    total, of_rows, of_groups = rows.new_zeros(()), torch.zeros_like(rows), [torch.zeros_like(g) for g in groups]
    for g, nodes in enumerate(groups):
        for tile in tiles:
            some, others = rows[..., tile, :].detach(), nodes.detach()
            value = part(some.requires_grad_(learning), others.requires_grad_(nodes.requires_grad), tile, g)
            total += value.detach()
            if learning:
                sources, sums = [some], [of_rows[..., tile, :]]
                if nodes.requires_grad:
                    sources, sums = [some, others], [*sums, of_groups[g]]
                for of_source, gradient in zip(sums, torch.autograd.grad(value, sources), strict=True):
                    of_source += gradient
    if not learning:
        return total
    linear = (rows * of_rows).sum() + sum((nodes * of).sum() for nodes, of in zip(groups, of_groups, strict=True))
    return total + (linear - linear.detach())  # the value is the total, the gradient that of the linear form


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
