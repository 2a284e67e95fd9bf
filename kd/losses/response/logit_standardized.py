"""Logit standardisation: a temperature of its own for every pixel."""

import torch
from torch import Tensor, nn

from kd.losses._pixels import full_precision, pair
from kd.losses.response._classes import warn_of_two_classes
from kd.losses.response.pixel_kl import PixelKL

EPSILON = 1e-7  # the authors': added to the standard deviation


class LogitStandardized(nn.Module):
    """Logit standardisation: any loss on logits, of which only the shape over the classes is left.

        z ← (z - mean_c z) / (σ_c z + 1e-7),   σ unbiased; then the loss

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, arXiv:2403.01427.
    Differs: standardised over the classes. The authors' and torchdistill's code takes the last dimension, which on maps
        is their width.

    Args:
        loss: a loss that compares logits; None is `PixelKL(temperature=2.0)`, the paper's base.

    Shape: student, teacher (N, K, h, w); labels (N, h, w) or None.

    Returns (of forward):
        What `loss` returns. With two classes only the sign of the logits' difference is left.

    Raises:
        ValueError: `loss` compares features; the shapes differ.
    """

    compares = "logits"

    def __init__(self, loss: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = PixelKL(temperature=2.0) if loss is None else loss
        if getattr(self.loss, "compares", "either") == "features":
            raise ValueError(f"LogitStandardized: {type(self.loss).__name__} compares features; give a loss on logits")

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss of the standardised logits."""
        with full_precision(student):
            student, teacher, _ = pair(student, teacher, labels)
            warn_of_two_classes(student, "logit standardisation")
            result: Tensor = self.loss(_standardized(student), _standardized(teacher), labels)
            return result


def _standardized(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(1, keepdim=True)
    # The norm's gradient at 0 is 0; that of a standard deviation is not defined there.
    deviation = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / (logits.shape[1] - 1) ** 0.5
    standardized: Tensor = centred / (deviation + EPSILON)
    return standardized
