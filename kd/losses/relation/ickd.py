"""Inter-channel correlation distillation."""

from jaxtyping import Float
from torch import Tensor, nn

from kd.losses._checks import check_known
from kd.losses._pixels import Labels, Maps, full_precision, mean_over, pair, unit


class ICKD(nn.Module):
    """Inter-channel correlation: match which channels are active at the same positions.

        g_cd = Σ_hw F_c F_d,   every row of g divided by its length,   loss = Σ_cd (g_student - g_teacher)² / C,
        mean over the batch

    Source: Liu et al., "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation", ICCV 2021,
        arXiv:2202.03680.
    Differs: the whole map is one cell; the paper divides segmentation maps into a grid and by C², not C. Ignored pixels
        are left out of g, and an image without valid pixels is left out of the mean.

    Args:
        convention: which code's value the loss returns:
            "default", "aicsd": the formula above;
            "torchdistill": divided by the batch size twice, 1/N times the default.

    Returns (of forward):
        No unit, 0 … 4 ("default"); 0 if the maps are equal up to a factor per image.

    Raises:
        ValueError: `convention` is unknown; the shapes differ (add an adapter).
    """

    compares = "features"
    conventions = ("default", "aicsd", "torchdistill")

    def __init__(self, convention: str = "default") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        self.convention = convention

    def forward(self, student: Float[Tensor, "N C h w"], teacher: Maps, labels: Labels = None) -> Float[Tensor, ""]:
        """Squared difference of the normalised Gram matrices, mean over channels and the batch."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels)
            difference = _correlations(student) - _correlations(teacher)
            loss = mean_over(difference.square().sum(2).mean(1), valid.flatten(1).any(1))
            return loss / len(student) if self.convention == "torchdistill" else loss


def _correlations(maps: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C C"]:
    channels = maps.flatten(2)
    return unit(channels @ channels.mT, 2)
