"""The types that all parts share, and the operations on logits and labels that all parts must perform alike.

Shapes: N images, C channels, K classes, H × W pixels; h × w is the size of a feature map.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from kd.constants import IGNORE as IGNORE  # the label of an ignored pixel; datasets translate whatever their files use

Maps = Tensor | tuple[Tensor, ...]  # what a term reads on one side: a map, or a tuple with a map per address

Item = TypeVar("Item")

WITHOUT_FLOAT64 = ("mps",)  # types of devices


class Sample(NamedTuple):
    """One image of a dataset as stored in its files, decoded and translated to class indices."""

    image: Tensor  # uint8 (C, H, W), RGB or one channel
    labels: Tensor | None  # uint8 (H, W): 0 … K-1 and IGNORE; None where the image has no labels
    name: str  # what messages call it, usually the path of the image


class Batch(NamedTuple):
    """The input of one training step."""

    images: Tensor  # uint8 (N, C, H, W); the engine makes them float in [0, 1] on the device
    labels: Tensor  # uint8 (N, H, W): 0 … K-1 and IGNORE; the engine makes them int64 on the device
    inside: Tensor  # bool (N, H, W): False on padding
    keys: Tensor  # int64 (N, 2): (index, view); (N, 3) for a cached teacher, which needs the sums of the pixels too
    teacher_images: Tensor | None = None  # uint8 (N, C, H', W'): the images as a teacher of another size sees them


class Tap(NamedTuple):
    """A place where a network can be read: the channels of the map, and the image pixels that one cell spans."""

    channels: int
    stride: int


class SegmentationOutput(NamedTuple):
    """What a network returns."""

    logits: Tensor  # (N, K, h, w), at the stride of the head
    features: dict[str, Tensor]  # tap -> (N, C_t, h_t, w_t)
    aux: dict[str, Tensor]  # further heads: name -> (N, K, h_a, w_a)


class Tapped(NamedTuple):
    """What a role (teacher, student) returns: logits with K >= 2, and a map or a tuple of maps for each term."""

    logits: Tensor  # (N, K, h, w)
    aux: dict[str, Tensor]
    at: dict[str, Maps]


@runtime_checkable
class Network(Protocol):
    """A teacher or student: an `nn.Module` that takes float images in [0, 1] and normalises them itself.

    A module without these attributes is accepted too: it declares no taps, and its numbers of classes and channels are
    not checked. `NetworkTraits` lists what a network may declare in addition.

    Attributes:
        taps: the keys of the output's `features`, each with its channels and stride.
        num_classes: K, the channels of the logits. K = 1 is a single logit z, which stands for the two logits (0, z).
        in_channels: C, the channels of the images.
    """

    taps: dict[str, Tap]
    num_classes: int
    in_channels: int

    def __call__(self, images: Tensor) -> SegmentationOutput: ...


class NetworkTraits(NamedTuple):
    """What a network may declare in an attribute `traits`; a network without it has the defaults.

    Attributes:
        shift_free: the logits are defined up to a constant per pixel, as those of an ensemble are. `kd check` refuses
            a loss on these logits whose value changes with the constant.
        known_classes: the classes, of the data's, that the network can predict; () stands for all. A term on logits
            compares the channels of these classes only, and ignores the pixels of the others.
        class_names: the names of its classes, in the order of its channels. A teacher whose names differ from the
            data's is refused. None: unknown, not checked.
        source_names: the names that its weights must have, in this order, where it maps their classes to others. None:
            those of any weights.
        loaded: lines on the weights that its constructor loaded.
    """

    shift_free: bool = False
    known_classes: tuple[int, ...] = ()
    class_names: tuple[str, ...] | None = None
    source_names: tuple[str, ...] | None = None
    loaded: tuple[str, ...] = ()


def traits(network: nn.Module) -> NetworkTraits:
    """The traits that a network declares, or the defaults."""
    declared = getattr(network, "traits", None)
    return declared if isinstance(declared, NetworkTraits) else NetworkTraits()


class DistillationLoss(Protocol):
    """The distance between student and teacher at one tap: a mean over the batch and the valid pixels.

    `labels` (N, h, w) have the size of the maps; None means that all pixels are valid. A term that lists several taps
    passes tuples of equal length for all three.
    """

    compares: str  # "logits", "features" or "either"

    def __call__(self, student: Any, teacher: Any, labels: Any) -> Tensor: ...


class SupervisedLoss(Protocol):
    """The distance between logits (N, K, H, W) and labels (N, H, W): a mean over the valid pixels."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor: ...


class SegmentationDataset(Protocol):
    """One split of a dataset, built as `Dataset(**args, split="train" | "val" | "test")`.

    A dataset may also have `groups`: of each image, the name of the group that it belongs to, such as a patient or a
    scene. Intervals then rest on the groups, because images of one group resemble each other. It may have a method
    `spacing(index)`, the height and width of a pixel of the image in mm, for metrics that measure distances.
    """

    class_names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]  # RGB of each class, 0 … 255
    in_channels: int

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Sample: ...


def as_tuple(value: Item | tuple[Item, ...]) -> tuple[Item, ...]:
    """A tuple of maps, addresses or labels as it is; a single one as a tuple of length one."""
    return value if isinstance(value, tuple) else (value,)


def as_classes(logits: Float[Tensor, "N K h w"]) -> Float[Tensor, "N classes h w"]:
    """Turn the single logit z of a one-channel head into the two logits (0, z); return other logits unchanged.

    Softmax of (0, z) is (1 - σ(z), σ(z)), so cross entropy is BCE and argmax the threshold 0.5.

    Returns:
        (N, max(K, 2), h, w).
    """
    return torch.cat((torch.zeros_like(logits), logits), 1) if logits.shape[1] == 1 else logits


def size_of(maps: Tensor) -> tuple[int, int]:
    """The height and width, (H, W), of images, maps or labels."""
    return maps.shape[-2], maps.shape[-1]


def resize(maps: Float[Tensor, "N C h w"], size: tuple[int, int]) -> Float[Tensor, "N C H W"]:
    """Resize bilinearly with half-pixel centres (`align_corners=False`), antialiased where the map shrinks.

    Two small matrix products give the values of `torch.nn.functional.interpolate(..., antialias=True)`; they are
    faster on a CPU, and deterministic on CUDA, forward and backward.

    Args:
        maps: half types are computed and returned in float32.
        size: (H, W) in cells.
    """
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps if maps.dtype in (torch.float32, torch.float64) else maps.float()
        rows = _bilinear_weights(maps.shape[-2], size[0], maps)  # (H, h)
        columns = _bilinear_weights(maps.shape[-1], size[1], maps)  # (W, w)
        return rows @ (maps @ columns.T)


def resize_bands(maps: Float[Tensor, "N C h w"], size: tuple[int, int], rows: int) -> Iterator[Tensor]:
    """Resize as `resize`, band by band from top to bottom: nothing of the size (N, C, H, W) is held.

    Args:
        maps: as for `resize`.
        size: (H, W) in cells.
        rows: of a band, at most; >= 1.

    Yields:
        (N, C, `rows` or fewer, W). The values are those of `resize` within rounding.
    """
    if tuple(maps.shape[-2:]) == tuple(size):
        yield from torch.split(maps, rows, dim=-2)
        return
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps if maps.dtype in (torch.float32, torch.float64) else maps.float()
        scale = maps.shape[-2] / size[0]
        weights = _bilinear_weights(maps.shape[-2], size[0], maps)  # (H, h)
        wide = maps @ _bilinear_weights(maps.shape[-1], size[1], maps).T  # (N, C, h, W)
        for top in range(0, size[0], rows):
            band = weights[top : top + rows]
            reach = max(scale, 1.0)  # of a row, in cells on both sides of its centre
            first = max(int((top + 0.5) * scale - reach), 0)
            end = min(math.ceil((top + len(band) - 0.5) * scale + reach) + 1, maps.shape[-2])
            yield band[:, first:end] @ wide[..., first:end, :]


def resize_labels(labels: Integer[Tensor, "N H W"], size: tuple[int, int]) -> Integer[Tensor, "N h w"]:
    """Resize labels to the size of a map: each cell takes the label under its centre.

    This is the mode "nearest-exact"; plain "nearest" reads the corner of a cell, 3.5 pixels off at stride 8.

    Args:
        labels: of any integer type, which is kept.
        size: (h, w) in cells.
    """
    if tuple(labels.shape[-2:]) == tuple(size):
        return labels
    sides = zip(labels.shape[-2:], size, strict=True)
    rows, columns = (_centres(n, m, labels.device).long().to(labels.device) for n, m in sides)
    return labels[:, rows[:, None], columns]


def in_float64(values: Tensor) -> Tensor:
    """The values in float64, on the CPU where their device has no such numbers."""
    return values.to(_with_float64(values.device)).double()


def _with_float64(device: torch.device) -> torch.device:
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def _centres(length: int, target: int, device: torch.device) -> Tensor:
    """The centres of `target` cells on an axis of `length` cells, in float64."""
    return (torch.arange(target, dtype=torch.float64, device=_with_float64(device)) + 0.5) * (length / target)


def _bilinear_weights(length: int, target: int, maps: Tensor) -> Tensor:
    """Row i holds the shares of the `length` cells in target cell i: a triangle around its centre, sum 1."""
    scale = length / target
    support = max(scale, 1.0)  # wider than one cell only where the map shrinks: the antialiasing
    centres = _centres(length, target, maps.device)
    cells = torch.arange(length, dtype=torch.float64, device=centres.device) + 0.5
    weights = (1 - (cells - centres[:, None]).abs() / support).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).to(maps.dtype).to(maps.device)


def parameter_count(network: nn.Module) -> int:
    """The number of scalars in the parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())
