"""Attention transfer."""

import torch
from torch import Tensor, nn

from kd.losses._checks import check_known
from kd.losses._pixels import attention, full_precision, mean_over, pair


class AT(nn.Module):
    """Attention transfer: match where a map is strong, whatever its channels say.

        a = normalise_hw( mean_c F² ),   loss = Σ_hw (a_student - a_teacher)²,   mean over the batch

    `normalise` divides by the Euclidean norm over the image's valid pixels.

    Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv:1612.03928.
    Differs: the squared distance, as in most code; `convention="paper"` is the distance itself. Ignored pixels are left
        out of the attention map, and an image without valid pixels out of the mean.

    Args:
        convention: whose number the loss returns:
            "house": the formula above;
            "cirkd": the mean over pixels in place of the sum, 1/P times the house value for P valid pixels an image
            (also mmrazor's, RepDistiller's, mdistiller's and torchdistill's "code" mode), so that its weight
            depends on the size of the map: CIRKD's 10,000 at 64×128 is 1.2 here;
            "paper": the Euclidean distance, not squared, mean over the batch (torchdistill's "paper" mode).

    Shape: student (N, C, h, w), teacher (N, D, h, w): channels may differ; labels (N, h, w) or None.

    Returns (of forward):
        No unit, 0 … 2 ("house"); 0 when the maps are equal up to a factor per image.

    Raises:
        ValueError: `convention` is unknown; the sizes differ.
    """

    compares = "features"
    conventions = ("house", "cirkd", "paper")

    def __init__(self, convention: str = "house") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        self.convention = convention

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """Squared distance of the attention maps, mean over the batch."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            difference = attention(student) - attention(teacher)  # (N, h·w)
            if self.convention == "cirkd":
                return mean_over(difference.square(), valid.flatten(1))
            if self.convention == "paper":
                return mean_over(torch.linalg.vector_norm(difference, dim=1), valid.flatten(1).any(1))
            return mean_over(difference.square().sum(1), valid.flatten(1).any(1))
