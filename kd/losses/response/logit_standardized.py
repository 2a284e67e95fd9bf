"""Logit standardisation: an individual temperature for every pixel."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kd.losses._pixels import Labels, Maps, full_precision, pair
from kd.losses.response._classes import warn_of_two_classes
from kd.losses.response.pixel_kl import PixelKL

EPSILON = 1e-7  # the authors': added to the standard deviation


class LogitStandardized(nn.Module):
    """Logit standardisation: apply a loss to logits with mean 0 and standard deviation 1 over the classes.

        z ← (z - mean_c z) / (σ_c z + 1e-7),   σ unbiased; then the loss

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, arXiv:2403.01427.
    Differs: standardises over the classes. The code of the authors and of torchdistill standardises over the last
        dimension, which is the width of a map.

    Args:
        loss: a loss that compares logits; None is `PixelKL(temperature=2.0)`, the paper's base.

    Returns (of forward):
        The value of `loss`. With two classes only the sign of the logits' difference is left.

    Raises:
        ValueError: `loss` compares features; the shapes differ.
    """

    compares = "logits"

    def __init__(self, loss: Callable[..., Tensor] | None = None) -> None:
        super().__init__()
        self.loss = PixelKL(temperature=2.0) if loss is None else loss
        if getattr(self.loss, "compares", "either") == "features":
            raise ValueError(f"LogitStandardized: {type(self.loss).__name__} compares features; give a loss on logits")

    def forward(self, student: Float[Tensor, "N K h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """The loss of the standardised logits."""
        with full_precision(student):
            student, teacher, _ = pair(student, teacher, labels)
            warn_of_two_classes(student, "logit standardisation")
            return self.loss(_standardized(student), _standardized(teacher), labels)


def _standardized(logits: Float[Tensor, "N K h w"]) -> Float[Tensor, "N K h w"]:
    centred = logits - logits.mean(1, keepdim=True)
    # The gradient of the norm is 0 at 0; the standard deviation has none there.
    deviation = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / (logits.shape[1] - 1) ** 0.5
    standardized: Tensor = centred / (deviation + EPSILON)
    return standardized
