"""Channels without their mean and scale: what NFD and SRD compare."""

import torch
from torch import Tensor

from kd.losses._pixels import centred

LEAST = 1e-6  # added to a standard deviation: a constant channel becomes 0, with a finite gradient


def standardize(maps: Tensor, valid: Tensor, *, unbiased: bool = False) -> Tensor:
    """Each channel with mean 0 and standard deviation 1 over the batch's valid pixels; 0 at the others.

    Args:
        maps: (N, C, h, w), float32 or float64.
        valid: bool (N, h, w).
        unbiased: divide by one pixel less in the variance.
    """
    maps = centred(maps, valid)
    spread = torch.linalg.vector_norm(maps, dim=(0, 2, 3), keepdim=True)  # its gradient is finite at 0, a root's not
    deviation = spread / (valid.sum() - int(unbiased)).clamp(min=1).to(maps.dtype).sqrt()
    result: Tensor = maps / (deviation + LEAST)
    return result
