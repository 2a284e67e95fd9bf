"""Simple recipe distillation: normalise, project, and compress the distance by a logarithm."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kd.losses._checks import check_known
from kd.losses._pixels import Labels, Maps, full_precision, mean_over, pair
from kd.losses.feature._standardize import standardize


class SRD(nn.Module):
    """Simple recipe distillation: the logarithm of a power of the difference between normalised features.

        loss = log( 1 + Σ_c |z(student) - z(teacher)|^p ),   the sum's mean over the valid pixels inside the logarithm

    z gives each channel mean 0 and standard deviation 1 over the valid pixels of the batch: batch normalisation without
    parameters. The paper's linear projector is the term's adapter, `kd.adapters.Conv1x1`.

    Source: Miles and Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation", AAAI 2024,
        arXiv:2303.11098.
    Differs: 1 + in the logarithm, so that identical maps give 0, not -∞; far from that, features get the paper's
        gradient. Pixels replace images.

    Args:
        exponent: p >= 1, the paper's α; larger concentrates on the worst channels.
        convention: which code's value the loss returns:
            "default": the formula above;
            "srd": log of the sum over channels and valid pixels, without 1 +. For P valid pixels and a sum far above 1,
            that is log P more than the default, with the same gradient.

    Returns (of forward):
        No unit, >= 0; 0 if the maps are equal up to a positive factor and a constant per channel.

    Raises:
        ValueError: `exponent` is below 1; `convention` is unknown; the shapes differ.
    """

    compares = "features"
    conventions = ("default", "srd")

    def __init__(self, exponent: float = 4.0, convention: str = "default") -> None:
        super().__init__()
        if not exponent >= 1:
            raise ValueError(f"exponent is {exponent}; it must be >= 1, or the gradient is infinite at the target")
        check_known(self.conventions, convention=convention)
        self.exponent = exponent
        self.convention = convention

    def forward(self, student: Float[Tensor, "N C h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """The logarithm of the mean power of the difference."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            difference = (standardize(student, valid) - standardize(teacher, valid)).abs()
            power = (difference**self.exponent).sum(1)  # (N, h, w)
            if self.convention == "srd":
                return power.where(valid, 0).sum().clamp(min=torch.finfo(power.dtype).tiny).log()
            return mean_over(power, valid).log1p()
