"""Inter-channel correlation distillation."""

from torch import Tensor, nn

from kd.losses._checks import check_known
from kd.losses._pixels import full_precision, mean_over, pair, unit


class ICKD(nn.Module):
    """Inter-channel correlation: match which channels are active at the same places.

        g_cd = Σ_hw F_c F_d,   every row of g divided by its length,   loss = Σ_cd (g_student - g_teacher)² / C,
        mean over the batch

    Source: Liu et al., "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation", ICCV 2021,
        arXiv:2202.03680.
    Differs: the whole map is one cell; the paper divides segmentation maps into a grid and C² in place of C. Ignored
        pixels are left out of g, and an image without valid pixels out of the mean.

    Args:
        convention: whose number the loss returns:
            "house", "aicsd": the formula above;
            "torchdistill": divided by the batch size twice, 1/N times.

    Shape: student, teacher (N, C, h, w); labels (N, h, w) or None.

    Returns (of forward):
        No unit, 0 … 4 ("house"); 0 when the maps are equal up to a factor per image.

    Raises:
        ValueError: `convention` is unknown; the shapes differ (add an adapter).
    """

    compares = "features"
    conventions = ("house", "aicsd", "torchdistill")

    def __init__(self, convention: str = "house") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        self.convention = convention

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """Squared difference of the normalised Gram matrices, mean over channels and the batch."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            difference = _correlations(student) - _correlations(teacher)  # (N, C, C)
            loss = mean_over(difference.square().sum(2).mean(1), valid.flatten(1).any(1))
            return loss / len(student) if self.convention == "torchdistill" else loss


def _correlations(maps: Tensor) -> Tensor:
    channels = maps.flatten(2)
    return unit(channels @ channels.mT, 2)
