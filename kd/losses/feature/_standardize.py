"""Channels without their mean and scale, which NFD and SRD compare."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kd.losses._pixels import centred

LEAST = 1e-6  # added to a standard deviation: a constant channel becomes 0, with a finite gradient


def standardize(
    maps: Float[Tensor, "N C h w"], valid: Bool[Tensor, "N h w"], *, unbiased: bool = False
) -> Float[Tensor, "N C h w"]:
    """Give each channel mean 0 and standard deviation 1 over the valid pixels of the batch; 0 at ignored pixels.

    Args:
        maps: float32 or float64.
        valid: which pixels are valid.
        unbiased: divide the variance by one pixel less.
    """
    maps = centred(maps, valid)
    norm = torch.linalg.vector_norm(maps, dim=(0, 2, 3), keepdim=True)  # has a finite gradient at 0, unlike a root
    deviation = norm / (valid.sum() - int(unbiased)).clamp(min=1).to(maps.dtype).sqrt()
    result: Tensor = maps / (deviation + LEAST)
    return result
