"""What losses on logits share beside the pixels: labels where there are none, and two classes."""

from torch import Tensor

from kd.losses._checks import warn_once


def labels_or_argmax(labels: Tensor | None, teacher: Tensor) -> Tensor:
    """The labels as int64; the teacher's most probable classes where there are none.

    Args:
        labels: (N, h, w) or None.
        teacher: logits (N, K, h, w).
    """
    return teacher.argmax(1) if labels is None else labels.long()


def warn_of_two_classes(logits: Tensor, part: str) -> None:
    """Say once that `part` teaches nothing when there are only two classes."""
    if logits.shape[1] == 2:
        warn_once(f"with two classes {part} carries nothing; PixelKL teaches all there is")
