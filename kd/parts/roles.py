"""The two roles of a network in distillation, and what both run on: a batch on the device."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kd.machine import Precision, random_state, set_random_state
from kd.networks.taps import Address, Taps
from kd.types import Batch, Maps, SegmentationOutput, Tapped, as_classes, as_tuple, resize, size_of


class Sight(NamedTuple):
    """How a teacher sees the images of the student.

    Attributes:
        size: (H, W) that they are resized to; None: `scale` times theirs.
        scale: > 0; 1: as they are.
        flip: whether it sees them mirrored too.
    """

    size: tuple[int, int] | None = None
    scale: float = 1.0
    flip: bool = False

    def of(self, batch: Batch) -> Float[Tensor, "N C _ _"]:
        """A batch's images at the size at which they are seen: those made for the teacher, or those of the student."""
        images = batch.images if batch.teacher_images is None else batch.teacher_images
        return resize(images, self.size_of(size_of(batch.images)))

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size at which images of this size are seen."""
        return self.size or (max(round(size[0] * self.scale), 1), max(round(size[1] * self.scale), 1))


AS_THE_STUDENT = Sight()


class Teacher(nn.Module):
    """A network that is never trained: its parameters are frozen, and `train()` leaves it in evaluation mode.

    Args:
        network: frozen by this class.
        addresses: term -> where the term reads this network.
        sight: how it sees the images.

    Shape: a batch with float images (N, C, H, W) in [0, 1] -> `Tapped`.
    """

    def __init__(self, network: nn.Module, addresses: Mapping[str, Address], sight: Sight = AS_THE_STUDENT) -> None:
        super().__init__()
        self.network, self.sight = network.requires_grad_(False), sight
        self.taps = Taps(network, addresses)
        self.train()

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode: in training mode, BatchNorm's statistics would drift with every batch."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tapped:
        return self.seeing(self.sight.of(batch))

    @torch.no_grad()
    def seeing(self, images: Float[Tensor, "N C H W"]) -> Tapped:
        """What it returns for images of the size at which it sees them; with `flip`, the mean with the mirror image."""
        tapped = _tapped(*self.taps(images))
        return _mean_with_mirrored(tapped, _tapped(*self.taps(images.flip(3)))) if self.sight.flip else tapped


class Teaching(Protocol):
    """What a step calls for the teacher's maps: the role itself, or the same quantised."""

    network: nn.Module
    taps: Taps
    sight: Sight

    def __call__(self, batch: Batch) -> Tapped: ...


class Student(nn.Module):
    """All that trains: the network, the adapters and the losses' own parameters. The one module that DDP wraps.

    Args:
        network: the student.
        addresses: term -> where the term reads the network.
        adapters: term -> a module for its map, or a `ModuleList` for a tuple of maps.
        losses: term, or `supervised`, -> its loss, where the loss is a module: its parameters and buffers are trained,
            saved and resumed with the student.

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
        self._held: list[nn.Parameter] = []  # trainable, but for `_frozen`

    def freeze(self, paths: Iterable[str]) -> None:
        """Freeze these modules of the network, and no others: weights, BatchNorm's statistics and dropout.

        `encoder` is the network's `backbone` where it has no module of that name. Parameters that the network itself
        has frozen remain frozen.

        Raises:
            ValueError: the network has no such module; or nothing would be left to train.
        """
        modules = dict(self.network.named_modules())
        paths = [frozen_path(self.network, path) for path in paths]
        for path in paths:
            if path not in modules or not path:
                close = get_close_matches(path, modules, n=1)
                children = ", ".join(dict(self.network.named_children()))
                hint = f"did you mean '{close[0]}'?" if close else f"it has {children}"
                raise ValueError(f"freeze: the network has no module '{path}'; {hint}")
        for parameter in self._held:
            parameter.requires_grad_(True)
        self._frozen = [modules[path] for path in paths]
        parameters = dict.fromkeys(parameter for module in self._frozen for parameter in module.parameters())
        self._held = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in self._held:
            parameter.requires_grad_(False)
        if self._held and not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise ValueError(f"freeze: {', '.join(paths)}: no part of the network is left to train; freeze less")
        self.train(self.training)

    def train(self, mode: bool = True) -> "Student":
        """As `nn.Module.train`, but frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, images: Float[Tensor, "N C H W"]) -> Tapped:
        tapped = _tapped(*self.taps(images))
        adapted = {term: adapt(adapter, tapped.at[term]) for term, adapter in self.adapters.items()}
        return tapped._replace(at=tapped.at | adapted)


def frozen_path(network: nn.Module, name: str) -> str:
    """The path of the module that `freeze` means by `name`: an encoder may be called `backbone`."""
    children = dict(network.named_children())
    return "backbone" if name == "encoder" and name not in children and "backbone" in children else name


def _tapped(output: SegmentationOutput, at: dict[str, Maps]) -> Tapped:
    return Tapped(as_classes(output.logits), {name: as_classes(logits) for name, logits in output.aux.items()}, at)


def _mean_with_mirrored(tapped: Tapped, mirrored: Tapped) -> Tapped:
    """The means of maps and of those of the mirror image, turned back."""

    def mean(maps: Tensor, others: Tensor) -> Tensor:
        return (maps + others.flip(3)) / 2

    at = {
        name: tuple(map(mean, maps, as_tuple(mirrored.at[name])))
        if isinstance(maps, tuple)
        else mean(maps, as_tuple(mirrored.at[name])[0])
        for name, maps in tapped.at.items()
    }
    aux = {name: mean(logits, mirrored.aux[name]) for name, logits in tapped.aux.items()}
    return Tapped(mean(tapped.logits, mirrored.logits), aux, at)


def adapt(adapter: nn.Module, maps: Maps) -> Maps:
    """A term's maps behind its adapter, or behind its list of adapters, one for each map."""
    if isinstance(adapter, nn.ModuleList):
        return tuple(_adapted(module, single) for module, single in zip(adapter, as_tuple(maps), strict=True))
    return _adapted(adapter, maps)


def _adapted(adapter: nn.Module, maps: Maps) -> Tensor:
    adapted = adapter(maps)
    if not isinstance(adapted, Tensor):
        raise ValueError(f"an adapter returns a tensor (N, out_channels, h, w), not {type(adapted).__name__}")
    return adapted


def to_device(batch: Batch, precision: Precision) -> Batch:
    """The batch on the device, images float32 in [0, 1], labels int64; keys stay on the CPU."""
    return Batch(
        images=precision.images(batch.images),
        labels=precision.moved(batch.labels).long(),
        inside=precision.moved(batch.inside),
        keys=batch.keys,
        teacher_images=None if batch.teacher_images is None else precision.images(batch.teacher_images),
    )


@contextmanager
def restored(precision: Precision, *modules: nn.Module) -> Iterator[None]:
    """Restore the parameters and buffers of these modules, and the random state, after the block."""
    tree, states = nn.ModuleList(modules), random_state(precision.device)
    before = {name: tensor.detach().clone() for name, tensor in _tensors(tree)}
    try:
        yield
    finally:
        set_random_state(precision.device, states)
        with torch.no_grad():
            for name, tensor in _tensors(tree):
                value = before.get(name, tensor)
                if value.shape == tensor.shape:  # a loss may replace, add or enlarge its buffers
                    tensor.copy_(value)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
