"""Normalised feature distillation, also known as PKD."""

from jaxtyping import Float
from torch import Tensor, nn

from kd.losses._checks import check_known
from kd.losses._pixels import Labels, Maps, full_precision, mean_over, pair
from kd.losses.feature._standardize import standardize


class NFD(nn.Module):
    """Normalised feature distillation: match the pattern of each channel, without its mean and scale.

        loss = ½ · (z(student) - z(teacher))² = 1 - r,   mean over channels and valid pixels

    z gives each channel mean 0 and standard deviation 1 over the valid pixels of the batch; r is Pearson's correlation
    of the two channels.

    Source: Liu et al., "NFD: Normalized Feature Distillation for Semantic Segmentation", 2022, arXiv:2207.05256; Cao et
        al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient", NeurIPS
        2022, arXiv:2207.02039, which is the same loss.
    Differs: ignored pixels are left out of mean, deviation and loss.

    Args:
        convention: which code's value the loss returns, with P valid pixels in the batch:
            "default": the formula above;
            "mmrazor": with the unbiased deviation, (P - 1) / P times the default.

    Returns (of forward):
        No unit, 0 … 2; 0 if the maps are equal up to a positive factor and a constant per channel.

    Raises:
        ValueError: `convention` is unknown; the shapes differ.
    """

    compares = "features"
    conventions = ("default", "mmrazor")

    def __init__(self, convention: str = "default") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        self.convention = convention

    def forward(self, student: Float[Tensor, "N C h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """Half the squared difference of the standardised maps, mean over channels and valid pixels."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            unbiased = self.convention == "mmrazor"
            student, teacher = (standardize(maps, valid, unbiased=unbiased) for maps in (student, teacher))
            return mean_over((student - teacher).square().mean(1), valid) / 2
