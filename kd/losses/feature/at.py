"""Attention transfer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kd.losses._checks import check_known
from kd.losses._pixels import AnyMaps, Labels, attention, full_precision, mean_over, pair


class AT(nn.Module):
    """Attention transfer: match where a map is strong, whatever its channels mean.

        a = normalise_hw( mean_c F² ),   loss = Σ_hw (a_student - a_teacher)²,   mean over the batch

    `normalise` divides by the Euclidean norm over the valid pixels of the image.

    Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv:1612.03928.
    Differs: the squared distance, as in most code; `convention="paper"` is the distance itself. Ignored pixels are left
        out of the attention map, and an image without valid pixels is left out of the mean.

    Args:
        convention: which code's value the loss returns:
            "default": the formula above;
            "cirkd": the mean over pixels instead of the sum, 1/P times the default for P valid pixels per image (also
            the value of MMRazor, RepDistiller, mdistiller and torchdistill's "code" mode). Its weight depends on the
            size of the map: CIRKD's 10,000 at 64×128 is 1.2 here;
            "paper": the Euclidean distance, not squared, mean over the batch (torchdistill's "paper" mode).

    Returns (of forward):
        No unit, 0 … 2 ("default"); 0 if the maps are equal up to a factor per image.

    Raises:
        ValueError: `convention` is unknown; the sizes differ.
    """

    compares = "features"
    conventions = ("default", "cirkd", "paper")

    def __init__(self, convention: str = "default") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        self.convention = convention

    def forward(self, student: Float[Tensor, "N C h w"], teacher: AnyMaps, labels: Labels = None) -> Float[Tensor, ""]:
        """Squared distance of the attention maps, mean over the batch."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            difference, valid = attention(student) - attention(teacher), valid.flatten(1)  # (N, h·w)
            if self.convention == "cirkd":
                return mean_over(difference.square(), valid)
            if self.convention == "paper":
                return mean_over(torch.linalg.vector_norm(difference, dim=1), valid.any(1))
            return mean_over(difference.square().sum(1), valid.any(1))
