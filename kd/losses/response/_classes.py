"""What losses on logits share: labels where there are none, and a warning for two classes."""

from jaxtyping import Float, Int64, Integer
from torch import Tensor

from kd.losses._checks import warn_once


def labels_or_argmax(
    labels: Integer[Tensor, "N h w"] | None, teacher: Float[Tensor, "N K h w"]
) -> Int64[Tensor, "N h w"]:
    """Return the labels, or the teacher's most probable classes where there are none."""
    return teacher.max(1).indices if labels is None else labels.long()


def warn_of_two_classes(logits: Float[Tensor, "N K h w"], part: str) -> None:
    """Warn once if there are only two classes, with which `part` carries no information."""
    if logits.shape[1] == 2:
        warn_once(f"with two classes {part} carries no information; use PixelKL")
