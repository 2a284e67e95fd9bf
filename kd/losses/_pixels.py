"""The arithmetic that losses share: valid pixels, precision, masks, means, directions.

Shapes are in the types, and tests check them: N images, C channels (D of the teacher where they may differ), K classes,
h × w pixels of a map, H × W of an image. A size with an underscore before its name is not checked by its type: the
function checks it, with a message for the user.
"""

from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F

from kd.types import IGNORE

Labels = Integer[Tensor, "_N _h _w"] | None  # None: every pixel is valid
Maps = Float[Tensor, "_N _C _h _w"]  # of the teacher, or of one of several taps
AnyMaps = Float[Tensor, "_N _D _h _w"]  # of a teacher whose channel count may differ from the student's
T = TypeVar("T")


def as_tuple(taken: T | tuple[T, ...]) -> tuple[T, ...]:
    """Return what a term reads at one or several taps as a tuple."""
    return taken if isinstance(taken, tuple) else (taken,)


def full_precision(maps: Tensor) -> torch.autocast:
    """Switch autocast off on the device of the maps, so that a loss computes in float32 at least."""
    return torch.autocast(maps.device.type, enabled=False)


def at_least_float32(maps: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert half types to float32; float32 and float64 stay."""
    return maps if maps.dtype in (torch.float32, torch.float64) else maps.float()


def pair(
    student: Float[Tensor, "..."], teacher: Float[Tensor, "..."], labels: Labels, *, channels: bool = True
) -> tuple[Float[Tensor, "N C h w"], Float[Tensor, "N D h w"], Bool[Tensor, "N h w"]]:
    """Check two maps and prepare them for a loss: the teacher's detached, both as `clear_ignored` returns them.

    Args:
        student: (N, C, h, w).
        teacher: (N, C, h, w).
        labels: of the same size, or None.
        channels: False where the loss compares maps of different channel counts.

    Returns:
        The two maps, and which pixels are valid.

    Raises:
        ValueError: the batch, the size or (with `channels`) the channel counts differ; the labels have another size.
    """
    of_student, of_teacher = tuple(student.shape), tuple(teacher.shape)
    shapes = f"student {of_student}, teacher {of_teacher}"
    if len(of_student) != 4 or len(of_teacher) != 4:
        raise ValueError(f"{shapes}: a loss compares maps (N, C, h, w)")
    if of_student[0] != of_teacher[0] or of_student[2:] != of_teacher[2:]:
        raise ValueError(f"{shapes}: batch or size differs; resize one map to the size of the other")
    if channels and of_student[1] != of_teacher[1]:
        raise ValueError(f"{shapes}: channels differ; add an adapter such as kd.adapters.Conv1x1")
    student, valid = clear_ignored(student, labels)
    return student, clear_ignored(teacher.detach(), labels)[0], valid


def clear_ignored(
    maps: Float[Tensor, "N C h w"], labels: Labels
) -> tuple[Float[Tensor, "N C h w"], Bool[Tensor, "N h w"]]:
    """Set the ignored pixels of the maps to 0, in float32 at least, and tell which pixels are valid.

    Leaving ignored pixels out of a sum is not enough: where they hold inf, or a value whose power is inf, the gradient
    would be 0 times inf.

    Raises:
        ValueError: the labels have another size than the maps.
    """
    valid = valid_pixels(labels, maps)
    maps = at_least_float32(maps)
    return (maps if labels is None else maps.where(valid[:, None], 0)), valid


def valid_pixels(labels: Labels, maps: Float[Tensor, "N C h w"]) -> Bool[Tensor, "N h w"]:
    """Mark the valid pixels of the maps: those whose label is not IGNORE; without labels, all.

    Raises:
        ValueError: the labels have another size than the maps.
    """
    expected = (maps.shape[0], *maps.shape[2:])
    if labels is None:
        return torch.ones(expected, dtype=torch.bool, device=maps.device)
    if labels.shape != expected:
        raise ValueError(f"labels {tuple(labels.shape)}, maps {tuple(maps.shape)}: labels must be {expected}")
    return labels != IGNORE


def members(labels: Integer[Tensor, "N h w"], num_classes: int) -> Bool[Tensor, "N K h w"]:
    """Mark the label of each pixel among the classes; an ignored pixel has none."""
    return labels[:, None] == torch.arange(num_classes, device=labels.device)[:, None, None]


def suppressed(maps: Float[Tensor, "*shape"], hidden: Bool[Tensor, "*#shape"]) -> Float[Tensor, "*shape"]:
    """Set hidden values to the lowest finite number: probability 0 in a softmax, as with -inf, but never NaN."""
    return maps.masked_fill(hidden, torch.finfo(maps.dtype).min)


def divergence(
    log_teacher: Float[Tensor, "*shape"], log_student: Float[Tensor, "*shape"], dim: int
) -> Float[Tensor, "..."]:
    """KL(teacher ‖ student) of log-probabilities, in nats, summed over `dim`."""
    return (log_teacher - log_student).mul_(log_teacher.exp()).sum(dim)


def centred(maps: Float[Tensor, "N C h w"], valid: Bool[Tensor, "N h w"]) -> Float[Tensor, "N C h w"]:
    """Subtract from each channel its mean over the valid pixels of the batch; 0 at ignored pixels."""
    inside = valid[:, None]
    mean = maps.where(inside, 0).sum((0, 2, 3), keepdim=True) / inside.sum().clamp(min=1)
    return (maps - mean).where(inside, 0)


def unit(vectors: Float[Tensor, "*shape"], dim: int | tuple[int, ...]) -> Float[Tensor, "*shape"]:
    """Divide vectors by their Euclidean length; a zero vector stays zero and gets no gradient.

    Zero vectors are common after a ReLU; dividing them by a small number would give them a gradient of 1e12.
    """
    return vectors / or_infinity(torch.linalg.vector_norm(vectors, dim=dim, keepdim=True))


def or_infinity(lengths: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Replace lengths of 0 by infinity, so that a division by them gives 0 and a gradient of 0."""
    return lengths.where(lengths > 1e-12, torch.inf)


def attention(maps: Float[Tensor, "N C h w"]) -> Float[Tensor, "N h*w"]:
    """Mean square over the channels, scaled to length 1 per image."""
    return unit(maps.square().mean(1).flatten(1), 1)


def mean_over(values: Float[Tensor, "*shape"], valid: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Mean of the valid values; 0, with a gradient of zero, if there are none."""
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)


def near_boundary(labels: Integer[Tensor, "N h w"], radius: int) -> Bool[Tensor, "N h w"]:
    """Mark the valid pixels that have at least two classes in the square of 2·radius + 1 pixels around them.

    IGNORE is not a class: a pixel that sees one class and ignored pixels is not at a boundary.

    Args:
        labels: class indices and IGNORE.
        radius: in pixels, >= 1.
    """
    valid = labels != IGNORE
    classes = labels.float()[:, None]  # (N, 1, h, w): max_pool2d needs floating point
    minus_lowest, highest = (
        F.max_pool2d(signed.where(valid[:, None], -torch.inf), 2 * radius + 1, stride=1, padding=radius)
        for signed in (-classes, classes)
    )
    return valid & (highest != -minus_lowest)[:, 0]
