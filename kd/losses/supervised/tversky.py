"""Tversky loss: an overlap with separate weights for the two kinds of error."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from kd.losses._checks import check_above, check_at_least, check_known
from kd.losses.supervised._overlap import CONVENTIONS, LEAST, over_classes, overlap


class Tversky(nn.Module):
    """Tversky loss: an overlap in which missed pixels and false pixels have different weights.

        TI = (TP + s) / (TP + α · FP + β · FN + s),   loss = (1 - TI)^γ,   mean over the classes present

    TP sums a class's probability over the pixels labelled with it, FP over the other valid pixels of the batch, FN sums
    1 - p over the pixels labelled with it. α = β = ½ is Dice, α = β = 1 Jaccard.

    Source: Salehi et al., "Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep Networks",
        MLMI 2017, arXiv:1706.05721; γ: Abraham and Khan, "A Novel Focal Tversky Loss", ISBI 2019, arXiv:1810.07842.
    Differs: γ is the exponent; Abraham and Khan write 1 / γ, and sum over the classes.

    Args:
        alpha: α >= 0, weight of a false pixel.
        beta: β >= 0, weight of a missed pixel; above α it favours recall.
        gamma: γ > 0; larger concentrates on the classes that overlap least.
        smooth: s >= 0 pixels; larger tolerates errors in small regions.
        per_image: compute the overlaps of each image, then their mean; False treats the batch as one image.
        background: False leaves class 0 out.
        convention: which code's value the loss returns, for a class that the labels do not hold and for γ:
            "default": the class is not in the mean; γ on each class;
            "smp": the class is 0 in the mean; γ on the mean;
            "monai": the class has the value of the formula, near 1; γ on each class. MONAI's own defaults also set
            `smooth=1e-5, per_image=True`.

    Returns (of forward):
        No unit, 0 … 1; 0 if every pixel has probability 1 for its label.

    Raises:
        ValueError: `alpha`, `beta` or `smooth` is below 0, `gamma` not above 0; `convention` is unknown; the sizes
            differ.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        smooth: float = 0.0,
        per_image: bool = False,
        background: bool = True,
        convention: str = "default",
    ) -> None:
        super().__init__()
        check_at_least(0, alpha=alpha, beta=beta, smooth=smooth)
        check_above(0, gamma=gamma)
        check_known(CONVENTIONS, convention=convention)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.smooth = smooth
        self.per_image = per_image
        self.background = background
        self.convention = convention

    def forward(self, logits: Float[Tensor, "N K H W"], labels: Integer[Tensor, "_N _H _W"]) -> Float[Tensor, ""]:
        """(1 - Tversky index)^γ, mean over classes."""
        sizes = overlap(logits, labels, per_image=self.per_image, background=self.background)
        shared, predicted, labelled, _ = sizes
        errors = self.alpha * (predicted - shared) + self.beta * (labelled - shared)
        loss = 1 - (shared + self.smooth) / (shared + errors + self.smooth).clamp(min=LEAST)
        # A power has no value below 0, where rounding may lead; at 0 its slope is infinite for γ < 1.
        loss = loss.clamp(min=torch.finfo(loss.dtype).tiny)
        if self.convention == "smp":
            return over_classes(loss, sizes, "smp") ** self.gamma
        return over_classes(loss**self.gamma, sizes, self.convention)
