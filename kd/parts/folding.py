"""BatchNorm folded into the convolutions before it: a frozen teacher needs no normalisation of its own."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kd.types import SegmentationOutput

TOLERANCE = 1e-5  # of the largest value of an output


def folded(network: nn.Module, tapped: Iterable[str], images: Tensor) -> tuple[nn.Module, int]:
    """A copy of a network in which every BatchNorm that follows a convolution is part of it.

    What follows what is seen in one forward pass. A convolution that a term taps keeps its own output; a tapped
    BatchNorm becomes an identity, whose output is the same.

    Args:
        network: in evaluation mode for good; without hooks of ours.
        tapped: module paths that terms read.
        images: (N, C, H, W) in [0, 1] that the pass is made on, and that both are compared on.

    Returns:
        The copy and how many were folded; the network itself and 0 where there are none, or where the copy's outputs
        differ by more than 1e-5 of the largest value.
    """
    pairs = [(conv, norm) for conv, norm in _pairs(network, images) if conv not in set(tapped)]
    if not pairs:
        return network, 0
    twin = copy.deepcopy(network)
    for conv, norm in pairs:
        first, second = twin.get_submodule(conv), twin.get_submodule(norm)
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.BatchNorm2d)
        fused = fuse_conv_bn_eval(first, second)
        _replace(twin, conv, fused)
        _replace(twin, norm, nn.Identity())
    return (twin, len(pairs)) if _equal(network, twin, images) else (network, 0)


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Paths of a convolution and of the BatchNorm that reads its output; each ran once."""
    made: dict[int, tuple[str, Tensor]] = {}  # a kept tensor's id is not given to another
    ran: list[str] = []
    pairs: list[tuple[str, str]] = []
    handles = []

    def watch(path: str, module: nn.Module) -> None:
        def look(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            ran.append(path)
            if isinstance(module, nn.Conv2d):
                made[id(output)] = (path, output)
            elif id(inputs[0]) in made:
                pairs.append((made[id(inputs[0])][0], path))

        handles.append(module.register_forward_hook(look))

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


def _equal(network: nn.Module, twin: nn.Module, images: Tensor) -> bool:
    with torch.no_grad():
        outputs: list[SegmentationOutput] = [network(images), twin(images)]
    ours, theirs = ([one.logits, *one.features.values(), *one.aux.values()] for one in outputs)
    return all(
        bool((a - b).abs().max() <= TOLERANCE * max(1.0, float(a.abs().max())))
        for a, b in zip(ours, theirs, strict=True)
    )
