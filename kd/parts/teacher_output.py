"""What a teacher's channels mean: the order of its classes, and logits or probabilities."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kd.errors import RecipeError
from kd.recipe.yaml12 import in_flow
from kd.types import SegmentationOutput


class Meaning(NamedTuple):
    """How a network's output becomes logits in the order of the data's classes."""

    order: tuple[int, ...] = ()  # the network's channel of each class; () if they are the same
    probabilities: bool = False  # whether it returns probabilities

    def give(self, network: nn.Module) -> None:
        """Make a network return logits in the order of the data's classes; its copies do the same."""
        if self != Meaning():
            network.register_forward_hook(partial(_translated, self))


def _translated(meaning: Meaning, network: nn.Module, args: object, output: SegmentationOutput) -> SegmentationOutput:
    return SegmentationOutput(
        _logits(meaning, output.logits),
        output.features,
        {name: _logits(meaning, logits) for name, logits in output.aux.items()},
    )


def _logits(meaning: Meaning, maps: Tensor) -> Tensor:
    if meaning.probabilities:
        smallest = torch.finfo(torch.float32).tiny
        shares = maps.float()
        maps = shares.clamp(min=smallest).log()
        if maps.shape[1] == 1:  # of the second of two classes
            maps = maps - (1 - shares).clamp(min=smallest).log()
    if not meaning.order:
        return maps
    return -maps if maps.shape[1] == 1 else maps[:, list(meaning.order)]


def class_order(teacher: Sequence[str], data: Sequence[str], where: str) -> tuple[int, ...]:
    """The teacher's channel of each class of the data; () where they are in the same order.

    Args:
        teacher: the names of the teacher's classes, in the order of its channels.
        data: those of the data.
        where: what states the teacher's names.

    Raises:
        RecipeError: the names are not the same ones.
    """
    channels = {_folded(name): channel for channel, name in enumerate(teacher)}
    if len(teacher) == len(data) and channels.keys() == {_folded(name) for name in data}:
        order = tuple(channels[_folded(name)] for name in data)
        return () if order == tuple(range(len(data))) else order
    known = {_folded(name) for name in data}
    strange = [name for name in teacher if _folded(name) not in known]
    lacking = [name for name in data if _folded(name) not in channels]
    what = [
        f"{text} {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
        for text, names in (("the data do not have", strange), ("the teacher does not have", lacking))
        if names
    ]
    raise RecipeError(
        f"{where}: the teacher's classes are {in_flow(list(teacher))}, those of the data {in_flow(list(data))}: "
        f"{'; '.join(what) or 'a name occurs twice'}; map them with teachers.ClassMapped (source, target, merge)"
    )


def _folded(name: str) -> str:
    return name.strip().casefold()
