"""Similarity-preserving distillation."""

from torch import Tensor, nn

from kd.losses._checks import check_known, warn_once
from kd.losses._pixels import full_precision, or_infinity, pair, unit


class SP(nn.Module):
    """Similarity-preserving: match which images of the batch look alike.

        g_nm = Σ_chw F_n F_m,   every row of g divided by its length,   loss = (g_student - g_teacher)², mean over n, m

    A batch of one image has one similarity, that of the image to itself: the loss is 0 and teaches nothing (warns
    once). At the small batches of segmentation it says little; `SKD` is its counterpart between the places of one
    image.

    Source: Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv:1907.09682.
    Differs: ignored pixels are left out of g, and an image without valid pixels out of the pairs.

    Args:
        convention: whose number the loss returns:
            "house", "repdistiller": the formula above;
            "torchdistill": rows divided by the sum of their absolute values in place of their length.

    Shape: student (N, C, h, w), teacher (N, D, h, w): channels may differ; labels (N, h, w) or None.

    Returns (of forward):
        No unit, 0 … 4; 0 when the similarities are equal up to a factor per image.

    Raises:
        ValueError: `convention` is unknown; the sizes differ.
    """

    compares = "features"
    conventions = ("house", "repdistiller", "torchdistill")

    def __init__(self, convention: str = "house") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        self.convention = convention

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """Squared difference of the similarities, mean over the pairs of images."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            if len(student) == 1:
                warn_once("SP compares the images of a batch: with one image it is 0; use a larger batch, or SKD")
            # An image without valid pixels has zeros in its row and in its column: it adds nothing to the sum.
            difference = self._similarities(student) - self._similarities(teacher)  # (N, N)
            return difference.square().sum() / valid.flatten(1).any(1).sum().clamp(min=1).square()

    def _similarities(self, maps: Tensor) -> Tensor:
        images = maps.flatten(1)
        products = images @ images.T
        if self.convention == "torchdistill":
            return products / or_infinity(products.abs().sum(1, keepdim=True))
        return unit(products, 1)
