"""What a teacher's channels mean: the order of its classes, and logits or probabilities."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kd.errors import RecipeError
from kd.networks.class_names import channels_of, folded
from kd.recipe.yaml12 import in_flow
from kd.types import SegmentationOutput

SUMS = 5e-3  # how far from 1 a sum of probabilities may be, in bfloat16 too
EXACT = 1e-6


class Channels(NamedTuple):
    """How a network's output becomes logits in the order of the data's classes."""

    order: tuple[int, ...] = ()  # the network's channel of each class; () if they are the same
    probabilities: bool = False  # whether it returns probabilities

    def give(self, network: nn.Module) -> None:
        """Make a network return logits in the order of the data's classes; its copies do the same."""
        if self != Channels():
            network.register_forward_hook(partial(_translated, self))

    @staticmethod
    def of(network: nn.Module) -> "Channels":
        """What was given to a network, or to the one that it is a copy of."""
        hooks = [hook for hook in network._forward_hooks.values() if isinstance(hook, partial)]
        return next((hook.args[0] for hook in hooks if hook.func is _translated), Channels())


def _translated(channels: Channels, network: nn.Module, args: object, output: SegmentationOutput) -> SegmentationOutput:
    return SegmentationOutput(
        _logits(channels, output.logits),
        output.features,
        {name: _logits(channels, logits) for name, logits in output.aux.items()},
    )


def _logits(channels: Channels, maps: Tensor) -> Tensor:
    if channels.probabilities:
        smallest = torch.finfo(torch.float32).tiny
        shares = maps.float()
        maps = shares.clamp(min=smallest).log()
        if maps.shape[1] == 1:  # of the second of two classes
            maps = maps - (1 - shares).clamp(min=smallest).log()
    if not channels.order:
        return maps
    return -maps if maps.shape[1] == 1 else maps[:, list(channels.order)]


def class_order(
    network: Sequence[str],
    data: Sequence[str],
    where: str,
    *,
    whose: str = "the teacher",
    fix: str = "map them with teachers.ClassMapped (source, target, merge)",
) -> tuple[int, ...]:
    """A network's channel of each class of the data; () where they are in the same order.

    Args:
        network: the names of its classes, in the order of its channels.
        data: those of the data.
        where: what states the network's names.
        whose: what a message calls the network.
        fix: what a message advises.

    Raises:
        RecipeError: the names are not the same ones.
    """
    order = channels_of(data, network)
    if order is not None:
        return () if order == tuple(range(len(data))) else order
    own, known = ({folded(name) for name in names} for names in (network, data))
    strange = [name for name in network if folded(name) not in known]
    lacking = [name for name in data if folded(name) not in own]
    what = [
        f"{text} {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
        for text, names in (("the data do not have", strange), (f"{whose} does not have", lacking))
        if names
    ]
    raise RecipeError(
        f"{where}: {whose}'s classes are {in_flow(list(network))}, those of the data {in_flow(list(data))}: "
        f"{'; '.join(what) or 'a name occurs twice'}; {fix}"
    )


def flaw(logits: Tensor, stated: str | None) -> str:
    """Why a teacher's output on real images cannot be logits, and what to write; "" if it can.

    Args:
        logits: (N, K >= 2, h, w); those of a one-channel head are (0, z).
        stated: what the recipe states of the network's output; None: it cannot.
    """
    maps = logits.detach().float()
    if not bool(maps.isfinite().all()):
        return "returns values that are not finite; its weights or the form of its images (preprocess) are wrong"
    if bool((maps - maps[:1, :, :1, :1]).abs().max() < EXACT):
        return "returns the same logits at every pixel of every image, which teaches nothing"
    is_single = maps.shape[1] == 2 and bool((maps[:, 0] == 0).all())  # one logit
    if is_single and stated == "probabilities":
        return ""  # the logit of any number
    shares = maps.exp() if stated == "probabilities" else maps[:, 1:] if is_single else maps
    total = shares.sum(1)
    is_share = _from_0_to_1(shares) if is_single else bool(shares.min() >= 0 and (total - 1).abs().max() <= SUMS)
    if not is_share and _from_0_to_1(shares):
        what = "returns values from 0 to 1, as of a sigmoid for each class"
        return f"{what}, but logits are wanted: leave the sigmoid out"
    if stated == "probabilities" and bool((total - 1).abs().max() > SUMS):
        return f"returns no probabilities (a pixel's sum is {total.max():.3g}); remove teacher.outputs"
    if stated == "probabilities" or not is_share:
        return ""
    if bool(((shares < EXACT) | (shares > 1 - EXACT)).all()):
        return "returns ones and zeros (the likeliest class), but logits are wanted: leave the argmax out"
    fix = "leave the softmax or sigmoid out of it" if stated is None else "state it: teacher.outputs=probabilities"
    return f"returns probabilities (none below 0, sum 1), but logits are wanted: {fix}"


def _from_0_to_1(values: Tensor) -> bool:
    """Whether values are those of a sigmoid; uncertain logits may lie in [0, 1] too, but not near its ends."""
    low, high = float(values.min()), float(values.max())
    return low >= 0 and high <= 1 + EXACT and low < 0.1 and high > 0.9
