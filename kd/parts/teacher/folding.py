"""BatchNorm folded into the convolutions before it: a frozen teacher needs no separate normalisation."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kd.types import SegmentationOutput

TOLERANCE = 1e-5  # of the largest value of an output


def folded(network: nn.Module, tapped: Iterable[str], images: Tensor) -> tuple[nn.Module, int]:
    """A copy of a network in which each BatchNorm that follows a convolution is folded into it.

    One forward pass shows which module follows which. A convolution that a term taps is left as it is; a tapped
    BatchNorm becomes an identity, whose output is the same.

    Args:
        network: always in evaluation mode; without hooks of ours.
        tapped: module paths that terms read.
        images: (N, C, H, W) in [0, 1] for the pass, and for the comparison of both networks.

    Returns:
        The copy and the number of folded layers; the network itself and 0 if there are none, or if the copy's outputs
        differ by more than 1e-5 of the largest value.
    """
    pairs = [(conv, norm) for conv, norm in _pairs(network, images) if conv not in set(tapped)]
    if not pairs:
        return network, 0
    copied = copy.deepcopy(network)
    for conv_path, norm_path in pairs:
        conv, norm = copied.get_submodule(conv_path), copied.get_submodule(norm_path)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        _replace(copied, conv_path, fuse_conv_bn_eval(conv, norm))
        _replace(copied, norm_path, nn.Identity())
    return (copied, len(pairs)) if _equal(network, copied, images) else (network, 0)


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """The paths of each convolution and of the BatchNorm that reads its output, where both ran once."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # by id, which no other tensor gets while this one is kept
    ran: list[str] = []
    pairs: list[tuple[str, str]] = []
    handles = []

    def watch(path: str, module: nn.Module) -> None:
        def record(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            ran.append(path)
            if isinstance(module, nn.Conv2d):
                outputs[id(output)] = (path, output)
            elif id(inputs[0]) in outputs:
                pairs.append((outputs[id(inputs[0])][0], path))

        handles.append(module.register_forward_hook(record))

    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d) or (isinstance(module, nn.BatchNorm2d) and module.running_mean is not None):
            watch(path, module)
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return [pair for pair in pairs if all(ran.count(path) == 1 for path in pair)]


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


def _equal(network: nn.Module, copied: nn.Module, images: Tensor) -> bool:
    with torch.no_grad():
        outputs: list[SegmentationOutput] = [network(images), copied(images)]
    maps = [(output.logits, *output.features.values(), *output.aux.values()) for output in outputs]
    return all(
        bool((a - b).abs().max() <= TOLERANCE * max(1.0, float(a.abs().max()))) for a, b in zip(*maps, strict=True)
    )
