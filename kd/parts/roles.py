"""The two roles a network can play in distillation."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from kd.machine import Precision
from kd.networks.taps import Address, Taps
from kd.types import Batch, Maps, Tapped, as_classes, as_tuple


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
        self._frozen: list[nn.Module] = []
        self._held: list[nn.Parameter] = []  # would train, were their modules not frozen

    def freeze(self, paths: Iterable[str]) -> None:
        """Freeze these modules of the network, and no others: weights, BatchNorm's statistics and dropout.

        `encoder` is the network's `backbone` where it has no module of that name. Parameters that the network itself
        never trains stay as they are.

        Raises:
            ValueError: the network has no such module; or nothing would be left to train.
        """
        modules = dict(self.network.named_modules())
        paths = [frozen_path(self.network, path) for path in paths]
        for path in paths:
            if path not in modules or not path:
                close = get_close_matches(path, modules, n=1)
                hint = (
                    f"did you mean '{close[0]}'?"
                    if close
                    else f"it has {', '.join(dict(self.network.named_children()))}"
                )
                raise ValueError(f"freeze: the network has no module '{path}'; {hint}")
        for parameter in self._held:
            parameter.requires_grad_(True)
        self._frozen = [modules[path] for path in paths]
        parameters = [parameter for module in self._frozen for parameter in module.parameters()]
        self._held = [parameter for parameter in dict.fromkeys(parameters) if parameter.requires_grad]
        for parameter in self._held:
            parameter.requires_grad_(False)
        if self._held and not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise ValueError(f"freeze: {', '.join(paths)} is all of the network that trains; freeze a part of it")
        self.train(self.training)

    def train(self, mode: bool = True) -> "Student":
        """As `nn.Module.train`, but frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, images: Tensor) -> Tapped:
        output, at = self.taps(images)
        adapted = {term: _adapt(adapter, at[term]) for term, adapter in self.adapters.items()}
        return Tapped(as_classes(output.logits), _as_classes(output.aux), at | adapted)


def frozen_path(network: nn.Module, name: str) -> str:
    """The path of the module that `freeze` means by `name`: an encoder may be called `backbone`."""
    children = dict(network.named_children())
    return "backbone" if name == "encoder" and name not in children and "backbone" in children else name


def _adapt(adapter: nn.Module, maps: Maps) -> Maps:
    if isinstance(adapter, nn.ModuleList):
        return tuple(module(tensor) for module, tensor in zip(adapter, as_tuple(maps), strict=True))
    adapted: Tensor = adapter(maps)
    return adapted


def _as_classes(aux: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: as_classes(logits) for name, logits in aux.items()}


def to_device(batch: Batch, precision: Precision) -> Batch:
    """The batch on the device, images float32 in [0, 1]."""
    labels, inside = (each.to(precision.device, non_blocking=True) for each in (batch.labels, batch.inside))
    return Batch(precision.images(batch.images), labels, inside, batch.keys)
