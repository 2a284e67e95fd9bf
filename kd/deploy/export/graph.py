"""What an exported file computes."""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import RecipeError, short
from kd.types import as_classes, size_of


class Form(NamedTuple):
    """What goes into an exported file, and what comes out of it."""

    channels: int
    size: tuple[int, int]  # (H, W)
    dynamic: bool = False  # whether it takes images of any number and size; otherwise `batch` images of `size`
    argmax: bool = False  # whether it gives class indices, int64 (N, H, W), in place of logits, (N, K, H, W)
    uint8: bool = False  # whether it takes uint8 images, 0 … 255, in place of float32 in [0, 1]
    batch: int = 1

    @property
    def dtype(self) -> str:
        """Of the images."""
        return "uint8" if self.uint8 else "float32"

    @property
    def output(self) -> str:
        """The name of the output."""
        return "classes" if self.argmax else "logits"

    def example(self) -> Tensor:
        """Images that the file takes; two of a dynamic one, because a single one would fix the batch."""
        shape = (2 if self.dynamic else self.batch, self.channels, *self.size)
        return torch.randint(0, 256, shape, dtype=torch.uint8) if self.uint8 else torch.rand(shape)


class Graph(nn.Module):
    """A network with what its scores add to it: the resizing of the logits and, if asked for, the argmax.

    Args:
        network: in evaluation mode; it normalises the images itself.
        argmax: whether the output is the class indices.

    Shape:
        images (N, C, H, W), float in [0, 1] or uint8; the output is logits (N, K >= 2, H, W), or classes int64
        (N, H, W).
    """

    def __init__(self, network: nn.Module, *, argmax: bool) -> None:
        super().__init__()
        self.network, self.argmax = network, argmax
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits or classes at their size."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        logits = as_classes(self.network(images).logits)
        # not `kd.types.resize`, whose matrices would be constants of the graph; where a map grows the two are equal
        logits = F.interpolate(logits, size=size_of(images), mode="bilinear", align_corners=False)
        return logits.argmax(1) if self.argmax else logits


class FreePool(nn.Module):
    """Adaptive average pooling of maps of any size, by two products with matrices that the graph itself computes.

    Exporters write torch's own for the size of the example alone.

    Args:
        size: (rows, columns) of the result; None keeps a side.
    """

    def __init__(self, size: tuple[int | None, int | None]) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, rows, columns)."""
        rows, columns = self.size
        if columns is not None:
            maps = maps @ _means(maps.shape[-1], columns, maps).T
        return maps if rows is None else _means(maps.shape[-2], rows, maps) @ maps


def _means(length: int, cells: int, maps: Tensor) -> Tensor:
    """Row i (cells, length) holds the shares of the places from floor(i · length / cells) on in their mean."""
    index = torch.arange(cells, device=maps.device)[:, None]
    starts, ends = index * length // cells, ((index + 1) * length + cells - 1) // cells
    places = torch.arange(length, device=maps.device)[None]
    inside = ((places >= starts) & (places < ends)).to(maps.dtype)
    return inside / inside.sum(1, keepdim=True)


def with_free_pools(network: nn.Module) -> nn.Module:
    """A copy of a network whose adaptive pooling takes maps of any size in an exported file too."""
    network = copy.deepcopy(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
            size = module.output_size
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, FreePool(size if isinstance(size, tuple) else (size, size)))
    return network


def make_graph(network: nn.Module, form: Form) -> tuple[Graph, Tensor]:
    """The graph of a network, and images on which it was tried.

    Args:
        network: in evaluation mode, on the CPU.
        form: of the file.

    Raises:
        RecipeError: the network does not take images of this size.
    """
    graph = Graph(with_free_pools(network) if form.dynamic else network, argmax=form.argmax)
    example = form.example()
    try:
        with torch.no_grad():
            graph(example)
    except (RuntimeError, ValueError) as error:
        height, width = form.size
        raise RecipeError(f"--size {height} {width}: the network does not take it: {short(error)}") from None
    return graph, example


def not_exported(network: nn.Module, to: str, form: Form, error: BaseException) -> RecipeError:
    """The line for a network that cannot be exported."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    fix = "leave --dynamic out" if form.dynamic else "kd predict uses the network itself"
    return RecipeError(f"{type(network).__name__}: cannot be exported to {to}: {short(error)}; {fix}")
