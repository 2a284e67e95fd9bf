"""Several trained networks that predict together."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from kd.data.images.decode import size_text
from kd.errors import RecipeError
from kd.evaluation.trained import Trained
from kd.parts.teacher.output import class_order
from kd.runtimes.exported import FileNetwork
from kd.types import SegmentationOutput, as_classes, resize, size_of


class Ensemble(nn.Module):
    """The mean probabilities of several networks, as logits at the finest of their strides.

    Args:
        networks: of the same number of classes.
        orders: of each network, its channel of each class of the first one; () where they are the same.
    """

    def __init__(self, networks: Sequence[nn.Module], orders: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.networks, self.orders = nn.ModuleList(networks), orders
        self.eval()

    def forward(self, images: Tensor) -> SegmentationOutput:
        """As of a network."""
        logits = [as_classes(network(images).logits).float() for network in self.networks]
        logits = [maps[:, list(order)] if order else maps for maps, order in zip(logits, self.orders, strict=True)]
        size = max(map(size_of, logits))
        shares = torch.stack([resize(maps, size).softmax(1) for maps in logits]).mean(0)
        return SegmentationOutput(shares.clamp_min(1e-12).log(), {}, {})


def together(members: Sequence[Trained]) -> Trained:
    """Several networks as one, which gets images as the first one's recipe prepares them.

    Raises:
        RecipeError: their classes or channels differ; or one is a file of another size.
    """
    first, *others = members
    for other in others:
        if other.in_channels != first.in_channels:
            raise RecipeError(
                f"{other.path}: takes images of {other.in_channels} channels, {first.path} of {first.in_channels}; "
                "leave it out of --with"
            )
        size, own = first.recipe.scored_size, other.recipe.scored_size
        if isinstance(other.network, FileNetwork) and other.network.one_by_one and own != size:
            raise RecipeError(
                f"{other.path}: takes images of {size_text(own)}, {first.path} gets {size_text(size)}; "
                f"add evaluate.size=[{own[0]},{own[1]}]"
            )
    fix = "leave it out of --with"
    orders = [class_order(m.classes, first.classes, str(m.path), whose="the run", fix=fix) for m in members]
    return replace(first, network=Ensemble([member.network for member in members], orders))
