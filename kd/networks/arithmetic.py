"""What a network computes, on every machine the same."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(network: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image of (H, W) pixels, from shapes alone."""
    shadow = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.rand(1, getattr(network, "in_channels", 3), *size, device="meta"))
    return int(counter.get_total_flops() // 2)
