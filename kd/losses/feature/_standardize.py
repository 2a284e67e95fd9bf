"""Channels without their mean and scale: what NFD and SRD compare."""

import torch
from torch import Tensor

LEAST = 1e-6  # added to a standard deviation: a constant channel becomes 0, with a finite gradient


def standardize(maps: Tensor, valid: Tensor, *, unbiased: bool = False) -> Tensor:
    """Each channel with mean 0 and standard deviation 1 over the batch's valid pixels; 0 at the others.

    Args:
        maps: (N, C, h, w), float32 or float64.
        valid: bool (N, h, w).
        unbiased: divide by one pixel less in the variance.
    """
    inside = valid[:, None]
    pixels = inside.sum()
    mean = maps.where(inside, 0).sum((0, 2, 3), keepdim=True) / pixels.clamp(min=1)
    centred = (maps - mean).where(inside, 0)
    spread = torch.linalg.vector_norm(centred, dim=(0, 2, 3), keepdim=True)  # its gradient is finite at 0, a root's not
    deviation = spread / (pixels - int(unbiased)).clamp(min=1).to(maps.dtype).sqrt()
    result: Tensor = centred / (deviation + LEAST)
    return result
