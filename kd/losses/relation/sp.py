"""Similarity-preserving distillation."""

from jaxtyping import Float
from torch import Tensor, nn

from kd.losses._checks import check_known, warn_once
from kd.losses._pixels import AnyMaps, Labels, full_precision, or_infinity, pair, unit


class SP(nn.Module):
    """Similarity-preserving: match how similar the images of the batch are to each other.

        g_nm = Σ_chw F_n F_m,   every row of g divided by its length,   loss = (g_student - g_teacher)², mean over n, m

    A batch of one image has only the similarity of the image to itself: the loss is 0 and warns once. At the small
    batches of segmentation it carries little information; `SKD` compares the regions of one image instead.

    Source: Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv:1907.09682.
    Differs: ignored pixels are left out of g, and an image without valid pixels is left out of the pairs.

    Args:
        convention: which code's value the loss returns:
            "default", "repdistiller": the formula above;
            "torchdistill": rows divided by the sum of their absolute values instead of their length.

    Returns (of forward):
        No unit, 0 … 4; 0 if the similarities are equal up to a factor per image.

    Raises:
        ValueError: `convention` is unknown; the sizes differ.
    """

    compares = "features"
    conventions = ("default", "repdistiller", "torchdistill")

    def __init__(self, convention: str = "default") -> None:
        super().__init__()
        check_known(self.conventions, convention=convention)
        self.convention = convention

    def forward(self, student: Float[Tensor, "N C h w"], teacher: AnyMaps, labels: Labels = None) -> Float[Tensor, ""]:
        """Squared difference of the similarities, mean over the pairs of images."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            if len(student) == 1:
                warn_once("SP compares the images of a batch: with one image it is 0; use a larger batch, or SKD")
            # An image without valid pixels has zeros in its row and column: it adds nothing to the sum.
            difference = self._similarities(student) - self._similarities(teacher)
            return difference.square().sum() / valid.flatten(1).any(1).sum().clamp(min=1).square()

    def _similarities(self, maps: Float[Tensor, "N C h w"]) -> Float[Tensor, "N N"]:
        images = maps.flatten(1)
        products = images @ images.T
        if self.convention == "torchdistill":
            return products / or_infinity(products.abs().sum(1, keepdim=True))
        return unit(products, 1)
