"""The arithmetic that losses share: which pixels count, at what precision, and which lie at a boundary."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd.types import IGNORE, Taken


def as_tuple(maps: Taken) -> tuple[Tensor, ...]:
    """What a term reads at one side, as a tuple: of one map where it is no tuple."""
    return maps if isinstance(maps, tuple) else (maps,)


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


def members(labels: Tensor, num_classes: int) -> Tensor:
    """Which class each pixel is labelled with: bool (N, K, h, w), False for every class at IGNORE.

    Args:
        labels: (N, h, w), any integer type.
        num_classes: K.
    """
    return labels[:, None] == torch.arange(num_classes, device=labels.device)[:, None, None]


def suppressed(maps: Tensor, hidden: Tensor) -> Tensor:
    """The maps with the lowest finite number where `hidden`: probability 0 in a softmax, as -inf, and no NaN."""
    return maps.masked_fill(hidden, torch.finfo(maps.dtype).min)


def divergence(log_teacher: Tensor, log_student: Tensor, dim: int) -> Tensor:
    """KL(teacher ‖ student) of log-probabilities, in nats, summed over `dim`."""
    return (log_teacher - log_student).mul_(log_teacher.exp()).sum(dim)


def centred(maps: Tensor, valid: Tensor) -> Tensor:
    """Each channel less its mean over the batch's valid pixels; 0 at the others.

    Args:
        maps: (N, C, h, w).
        valid: bool (N, h, w).
    """
    inside = valid[:, None]
    mean = maps.where(inside, 0).sum((0, 2, 3), keepdim=True) / inside.sum().clamp(min=1)
    return (maps - mean).where(inside, 0)


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Each vector by its Euclidean length; a vector of zeros stays zero and gets no gradient.

    Division by a small number in its place would send such a vector, common behind a ReLU, a gradient of 1e12.
    """
    return vectors / or_infinity(torch.linalg.vector_norm(vectors, dim=dim, keepdim=True))


def or_infinity(lengths: Tensor) -> Tensor:
    """Lengths to divide by: what is divided by a length of 0 becomes 0, and so does its gradient."""
    return lengths.where(lengths > 1e-12, torch.inf)


def attention(maps: Tensor) -> Tensor:
    """Where a map (N, C, h, w) is strong: the mean of its squares over the channels, of length 1: (N, h·w)."""
    return unit(maps.square().mean(1).flatten(1), 1)


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
