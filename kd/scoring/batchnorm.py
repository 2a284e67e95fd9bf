"""BatchNorm's statistics, estimated again after a training."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kd.machine import Precision


def reestimate_batchnorm(network: nn.Module, batches: Iterator[Tensor], precision: Precision) -> None:
    """Replace BatchNorm's running averages by the means over some batches.

    In a short run, the running averages trail the weights: with torchvision's momentum of 0.01, a network that
    fits its training data may score near zero for this reason alone. Modules in evaluation mode (a frozen part) keep
    their statistics.

    Args:
        network: in training mode; changed in place.
        batches: images, uint8 (N, C, H, W).
        precision: where and how it runs.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    with torch.no_grad(), precision.autocast():
        for images in batches:
            network(precision.images(images))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
