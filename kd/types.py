"""The types that every part shares, and the two operations on logits that every part must do alike.

Shapes: N images, C channels, K classes, H × W pixels; h × w is a map's own size.
"""

from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

IGNORE = 255  # the one label that means "not scored"; files may hold others, datasets translate them

Taken = Tensor | tuple[Tensor, ...]  # what a term reads at one side: one map, or one per address in its list

Item = TypeVar("Item")


class Sample(NamedTuple):
    """One image of a dataset as its files hold it, decoded and translated to class indices."""

    image: Tensor  # uint8 (C, H, W), RGB or one channel
    labels: Tensor | None  # uint8 (H, W): 0 … K-1 and IGNORE; None where the image has no labels
    name: str  # what a message calls it: usually the image's path


class Batch(NamedTuple):
    """What one training step sees."""

    images: Tensor  # uint8 (N, C, H, W); the engine makes them float in [0, 1] on the device
    labels: Tensor  # int64 (N, H, W): 0 … K-1 and IGNORE
    inside: Tensor  # bool (N, H, W): False on padding
    keys: Tensor  # int64 (N, 2): (index, view), which name an augmented image for good


class Tap(NamedTuple):
    """Where a network can be read: its channels and how many image pixels one of its cells spans."""

    channels: int
    stride: int


class SegmentationOutput(NamedTuple):
    """What a network returns."""

    logits: Tensor  # (N, K, h, w), at the head's own stride
    features: dict[str, Tensor]  # tap -> (N, C_t, h_t, w_t)
    aux: dict[str, Tensor]  # further heads, name -> (N, K, h_a, w_a)


class Tapped(NamedTuple):
    """What a role (teacher, student) returns: logits with K >= 2, and a map or tuple of maps for every term."""

    logits: Tensor  # (N, K, h, w)
    aux: dict[str, Tensor]
    at: dict[str, Taken]


@runtime_checkable
class Network(Protocol):
    """A teacher or a student: an `nn.Module` that takes float images in [0, 1] and normalises them itself."""

    taps: dict[str, Tap]
    num_classes: int
    in_channels: int

    def __call__(self, images: Tensor) -> SegmentationOutput: ...


class DistillationLoss(Protocol):
    """How far the student is from the teacher at one tap; a mean over the batch and the valid pixels.

    `labels` (N, h, w) have the maps' size; None means that every pixel is valid. A term that lists several taps gives
    tuples of equal length for all three.
    """

    compares: str  # "logits", "features" or "either"

    def __call__(self, student: Any, teacher: Any, labels: Any) -> Tensor: ...


class SupervisedLoss(Protocol):
    """How far logits (N, K, H, W) are from labels (N, H, W); a mean over the valid pixels."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor: ...


class SegmentationDataset(Protocol):
    """One split of a dataset, built as `Dataset(**args, split="train" | "val" | "test")`."""

    class_names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]  # RGB, one a class, 0 … 255
    in_channels: int

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Sample: ...


def as_tuple(value: Item | tuple[Item, ...]) -> tuple[Item, ...]:
    """One value or several (maps, addresses) as a tuple."""
    return value if isinstance(value, tuple) else (value,)


def as_classes(logits: Tensor) -> Tensor:
    """Logits of a one-channel head z as the two logits (0, z); all others unchanged.

    Softmax of (0, z) is (1 - σ(z), σ(z)), so cross entropy is BCE and argmax the threshold 0.5.

    Args:
        logits: (N, K, h, w).

    Returns:
        (N, max(K, 2), h, w).
    """
    return torch.cat((torch.zeros_like(logits), logits), 1) if logits.shape[1] == 1 else logits


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize with half-pixel centres (`align_corners=False`), antialiased where it shrinks.

    Two small matrix products give the values of `torch.nn.functional.interpolate(..., antialias=True)`; they are
    faster on a CPU, and deterministic on CUDA, forward and backward.

    Args:
        maps: (N, C, h, w), floating point; half types are computed and returned in float32.
        size: (H, W) in pixels.

    Returns:
        (N, C, H, W).
    """
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps if maps.dtype in (torch.float32, torch.float64) else maps.float()
        rows = _bilinear_weights(maps.shape[-2], size[0], maps)  # (H, h)
        columns = _bilinear_weights(maps.shape[-1], size[1], maps)  # (W, w)
        return rows @ (maps @ columns.T)


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels at a map's size: each cell takes the label under its centre.

    This is the mode "nearest-exact"; plain "nearest" reads the corner of a cell, 3.5 pixels off at stride 8.

    Args:
        labels: (N, H, W), any integer type.
        size: (h, w).

    Returns:
        (N, h, w), the same type.
    """
    if tuple(labels.shape[-2:]) == tuple(size):
        return labels
    rows, columns = (_centres(n, m, labels.device).long() for n, m in zip(labels.shape[-2:], size, strict=True))
    return labels[:, rows[:, None], columns]


def _centres(length: int, target: int, device: torch.device) -> Tensor:
    """Where the centres of `target` cells lie on an axis of `length` cells."""
    return (torch.arange(target, dtype=torch.float64, device=device) + 0.5) * (length / target)


def _bilinear_weights(length: int, target: int, like: Tensor) -> Tensor:
    """Row i holds the shares of the `length` cells in target cell i: a triangle around its centre, sum 1."""
    scale = length / target
    support = max(scale, 1.0)  # wider than one cell only where the map shrinks: the antialiasing
    centres = _centres(length, target, like.device)
    cells = torch.arange(length, dtype=torch.float64, device=like.device) + 0.5
    weights = (1 - (cells - centres[:, None]).abs() / support).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).to(like.dtype)


def parameter_count(network: nn.Module) -> int:
    """How many numbers the network's parameters hold."""
    return sum(parameter.numel() for parameter in network.parameters())
