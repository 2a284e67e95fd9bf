"""The two roles a network can play in distillation."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.taps import Address, Taps
from kd.types import Batch, Taken, Tapped, as_classes


class Teacher(nn.Module):
    """A network that only answers: no gradients, and `train()` leaves it in evaluation mode.

    Args:
        network: frozen here, for good.
        addresses: term -> where the term reads this network.

    Shape: a batch with float images (N, C, H, W) in [0, 1] -> `Tapped`.
    """

    def __init__(self, network: nn.Module, addresses: Mapping[str, Address]) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.taps = Taps(network, addresses)
        self.train()

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode: a teacher in training mode would drift with every batch it sees."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tapped:
        output, at = self.taps(batch.images)
        return Tapped(as_classes(output.logits), _as_classes(output.aux), at)


class Student(nn.Module):
    """All that trains: the network, the adapters and the losses' own parameters. The one module that DDP wraps.

    Args:
        network: the student.
        addresses: term -> where the term reads it.
        adapters: term -> a module for its map, or a `ModuleList` for a tuple of maps.
        losses: term -> its loss, where the loss is a module: registered here so that what it learns or remembers is
            trained, saved and resumed with the student.

    Shape: float images (N, C, H, W) in [0, 1] -> `Tapped`, adapters applied.
    """

    def __init__(
        self,
        network: nn.Module,
        addresses: Mapping[str, Address],
        adapters: Mapping[str, nn.Module],
        losses: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        self.network = network
        self.adapters = nn.ModuleDict(adapters)
        self.losses = nn.ModuleDict(losses)
        self.taps = Taps(network, addresses)

    def forward(self, images: Tensor) -> Tapped:
        output, at = self.taps(images)
        adapted = {term: _adapt(adapter, at[term]) for term, adapter in self.adapters.items()}
        return Tapped(as_classes(output.logits), _as_classes(output.aux), at | adapted)


def _adapt(adapter: nn.Module, maps: Taken) -> Taken:
    if isinstance(adapter, nn.ModuleList):
        return tuple(one(each) for one, each in zip(adapter, maps, strict=True))
    adapted: Tensor = adapter(maps)
    return adapted


def _as_classes(aux: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: as_classes(logits) for name, logits in aux.items()}
