"""The arithmetic that losses share: which pixels count, at what precision, and which lie at a boundary."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd.types import IGNORE


def full_precision(maps: Tensor) -> torch.autocast:
    """A context without autocast on the maps' device: a loss's arithmetic never drops below float32."""
    return torch.autocast(maps.device.type, enabled=False)


def at_least_float32(maps: Tensor) -> Tensor:
    """Half types as float32; float32 and float64 as they are."""
    return maps if maps.dtype in (torch.float32, torch.float64) else maps.float()


def pair(
    student: Tensor, teacher: Tensor, labels: Tensor | None, *, channels: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Both maps as a loss computes on them: of one size, the teacher's detached, each as by `counted`.

    Args:
        student: (N, C, h, w).
        teacher: (N, C, h, w).
        labels: (N, h, w), or None: every pixel counts.
        channels: False where a loss compares maps of different channel counts.

    Returns:
        The two maps, and bool (N, h, w): which pixels count.

    Raises:
        ValueError: batch, size, or (with `channels`) channel count differ; the labels have another size.
    """
    mine, its = tuple(student.shape), tuple(teacher.shape)
    if len(mine) != 4 or len(its) != 4:
        raise ValueError(f"student {mine}, teacher {its}: a loss compares maps (N, C, h, w)")
    if mine[0] != its[0] or mine[2:] != its[2:]:
        raise ValueError(f"student {mine}, teacher {its}: batch or size differs; resize one map to the other's size")
    if channels and mine[1] != its[1]:
        raise ValueError(f"student {mine}, teacher {its}: channels differ; add an adapter such as kd.adapters.Conv1x1")
    student, valid = counted(student, labels)
    return student, counted(teacher.detach(), labels)[0], valid


def counted(maps: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Maps in float32 at least, with 0 at the pixels that do not count, and which ones do.

    To leave such pixels out of a sum afterwards is not enough: where they hold inf, or a value whose square or power is
    inf, their gradient would be 0 times inf.

    Args:
        maps: (N, C, h, w).
        labels: (N, h, w), or None: every pixel counts.

    Returns:
        (N, C, h, w); bool (N, h, w).

    Raises:
        ValueError: the labels have another size than the maps.
    """
    valid = valid_pixels(labels, maps)
    maps = at_least_float32(maps)
    return (maps if labels is None else maps.where(valid[:, None], 0)), valid


def valid_pixels(labels: Tensor | None, maps: Tensor) -> Tensor:
    """Which pixels of the maps count: those whose label is not IGNORE; all of them without labels.

    Args:
        labels: (N, h, w), any integer type, or None.
        maps: (N, C, h, w).

    Returns:
        bool (N, h, w).

    Raises:
        ValueError: the labels have another size than the maps.
    """
    expected = (maps.shape[0], *maps.shape[2:])
    if labels is None:
        return torch.ones(expected, dtype=torch.bool, device=maps.device)
    if labels.shape != expected:
        raise ValueError(f"labels {tuple(labels.shape)}, maps {tuple(maps.shape)}: labels must be {expected}")
    return labels != IGNORE


def mean_over(values: Tensor, valid: Tensor) -> Tensor:
    """The mean of the values that are valid; 0, with a gradient of zero, when none is.

    Args:
        values: one number per pixel (N, h, w), or per image (N,).
        valid: bool, the shape of `values`.
    """
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)


def near_boundary(labels: Tensor, radius: int) -> Tensor:
    """Which pixels see two classes or more in the square of 2·radius + 1 pixels around them.

    Ignored pixels are no class: neither they nor what lies beside nothing else is at a boundary.

    Args:
        labels: (N, h, w), any integer type.
        radius: in pixels, >= 1.

    Returns:
        bool (N, h, w); False at ignored pixels.
    """
    valid = labels != IGNORE
    classes = labels.float()[:, None]  # (N, 1, h, w): max_pool2d takes floating point alone
    minus_lowest, highest = (
        F.max_pool2d(signed.where(valid[:, None], -torch.inf), 2 * radius + 1, stride=1, padding=radius)
        for signed in (-classes, classes)
    )
    return valid & (highest != -minus_lowest)[:, 0]
