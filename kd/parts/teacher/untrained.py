"""Signs that a network was never trained: its weights are as they were drawn, its statistics as they begin."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from kd.types import in_float64

KOLMOGOROV = 1.63  # a sample of n uniform numbers is further than this / √n from uniform in 1 of 100 cases


def sign_of_no_training(network: nn.Module, num_classes: int) -> str:
    """What shows that a network was never trained; "" where nothing does.

    Args:
        network: teacher or student.
        num_classes: K.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]
    if norms and all(_is_initial(layer) for layer in norms):
        return "the statistics of its BatchNorm layers are at their initial values"
    heads = [(name, layer) for name, layer in network.named_modules() if _channels(layer) in (num_classes, 1)]
    if heads and _is_as_drawn(heads[-1][1]):
        return f"its classifier ({heads[-1][0]}) is as it was drawn at random"
    return ""


def _is_initial(layer: _BatchNorm) -> bool:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return bool((layer.running_mean == 0).all() and (layer.running_var == 1).all())


def _channels(layer: nn.Module) -> int | None:
    if isinstance(layer, _ConvNd):
        return layer.out_channels
    return layer.out_features if isinstance(layer, nn.Linear) else None


def _is_as_drawn(layer: nn.Module) -> bool:
    """Whether weight and bias can be fresh: torch's uniform numbers, or any narrow distribution beside a bias of 0."""
    parameters = dict(layer.named_parameters())
    weight, bias = parameters["weight"].detach().float(), parameters.get("bias")
    fan_in, fan_out = weight[0].numel(), weight.shape[0] * weight[0, 0].numel()
    if bias is not None and not bool((bias == 0).all()):
        return _is_uniform(torch.cat((weight.flatten(), bias.detach().float())), 1 / math.sqrt(fan_in))
    is_centred = weight.mean().abs() <= 3 * weight.std() / math.sqrt(weight.numel())
    is_narrow = weight.std() <= 1.2 * math.sqrt(2 / min(fan_in, fan_out))  # the widest usual one is He's
    return bool(is_centred and is_narrow)


def _is_uniform(numbers: Tensor, bound: float) -> bool:
    """Whether numbers can be uniform in [-bound, bound], by the test of Kolmogorov and Smirnov at 1 %."""
    ordered, count = in_float64(numbers.sort().values), numbers.numel()
    shares = (ordered / bound + 1) / 2
    steps = torch.arange(count + 1, device=ordered.device, dtype=torch.float64) / count
    distance = torch.maximum(shares - steps[:-1], steps[1:] - shares).max()
    inside = bool(ordered.abs().max() <= bound * (1 + 1e-3))
    return inside and float(distance) <= KOLMOGOROV / math.sqrt(count)
