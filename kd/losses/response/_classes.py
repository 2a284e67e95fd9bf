"""What losses on logits share beside the pixels: labels where there are none, and two classes."""

import warnings
from functools import cache

import torch
from torch import Tensor


def labels_or_argmax(labels: Tensor | None, teacher: Tensor) -> Tensor:
    """The labels as int64; the teacher's most probable classes where there are none.

    Args:
        labels: (N, h, w) or None.
        teacher: logits (N, K, h, w).
    """
    return teacher.argmax(1) if labels is None else labels.long()


def warn_of_two_classes(logits: Tensor, part: str) -> None:
    """Say once that `part` teaches nothing when there are only two classes."""
    if logits.shape[1] == 2 and not torch.compiler.is_compiling():
        _warn(part)


@cache
def _warn(part: str) -> None:
    warnings.warn(f"with two classes {part} carries nothing; PixelKL teaches all there is", stacklevel=5)
