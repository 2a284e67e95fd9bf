"""What losses on pairs share: rows, means by segment, and sums that never hold all pairs at once."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

TILE = 2**22  # elements of the largest matrix held at a time: 16 MiB in float32, within a CPU's cache


def pixel_rows(maps: Float[Tensor, "N C h w"]) -> Float[Tensor, "N h*w C"]:
    """Lay out a map as one vector per pixel."""
    return maps.flatten(2).transpose(1, 2)


def pooled(
    maps: Float[Tensor, "N C h w"], valid: Bool[Tensor, "N h w"], side: int
) -> tuple[Float[Tensor, "N C p q"], Bool[Tensor, "N p q"]]:
    """Average the valid pixels in each window of side × side.

    Args:
        maps: 0 at ignored pixels.
        valid: which pixels are valid.
        side: in pixels; the last windows are narrower where it does not divide the size.

    Returns:
        The means, 0 where a window has no valid pixel; which windows have one.
    """
    if side == 1:
        return maps, valid
    share = F.avg_pool2d(valid[:, None].to(maps.dtype), side, ceil_mode=True)
    mean = F.avg_pool2d(maps, side, ceil_mode=True) / share.where(share > 0, 1)
    return mean, share[:, 0] > 0


def segment_means(
    rows: Float[Tensor, "R C"], segments: Int64[Tensor, " R"], number: int
) -> tuple[Float[Tensor, "{number} C"], Int64[Tensor, " {number}"]]:
    """Average the rows of each segment, in one pass over the rows.

    Args:
        rows: any vectors.
        segments: the segment of each row, 0 … number-1.
        number: of segments.

    Returns:
        The means, 0 for a segment without rows; the number of rows of each segment.
    """
    sums = rows.new_zeros(number, rows.shape[1]).index_add(0, segments, rows)
    counts = segments.new_zeros(number).index_add(0, segments, torch.ones_like(segments))
    return sums / counts.clamp(min=1)[:, None], counts


def summed_in_tiles(
    part: Callable[[Tensor, Tensor, slice, int], Tensor],
    rows: Float[Tensor, "*batch R C"],
    *groups: Float[Tensor, "*batch Q C"],
) -> Float[Tensor, ""]:
    """Compute Σ part(rows[tile], nodes, tile, g) over groups g of nodes and slices of the rows of at most TILE pairs.

    With more than one slice, the gradient of a slice is computed right after its value, so that nothing of the slice is
    kept for the backward pass or computed again in it. The result has no second derivative.

    Args:
        part: gives a scalar for some of the rows, the nodes of one group, the slice that selects these rows, and the
            number of the group.
        rows: sliced along R.
        groups: the nodes; all of them require a gradient, or none.
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
    return total + (linear - linear.detach())  # the value of the total, the gradient of the linear form


def shuffled(draw: Int64[Tensor, ""], number: int) -> Int64[Tensor, " {number}"]:
    """Return `number` pseudo-random integers in 0 … 2³² - 1 that depend only on `draw`.

    There is no generator, because its state does not fit in a buffer and a compiled graph does not accept it. A count
    of draws does: a resumed run draws what the uninterrupted run would have drawn, on every device.

    Args:
        draw: another number for every draw.
        number: how many integers.
    """
    low = 0xFFFFFFFF
    bits = (torch.arange(number, device=draw.device) + draw * 0x9E3779B1) & low
    for shift, factor in ((16, 0x7FEB352D), (15, 0x45D9F3B)):
        bits = ((bits ^ (bits >> shift)) * factor) & low
    return bits ^ (bits >> 16)
