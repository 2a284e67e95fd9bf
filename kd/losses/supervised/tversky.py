"""Tversky loss: an overlap that weighs the two kinds of error apart."""

import torch
from torch import Tensor, nn

from kd.losses._checks import check_above, check_at_least, check_known
from kd.losses.supervised._overlap import CONVENTIONS, LEAST, over_classes, overlap


class Tversky(nn.Module):
    """Tversky loss: an overlap in which missed pixels and false ones count differently.

        TI = (TP + s) / (TP + α · FP + β · FN + s),   loss = (1 - TI)^γ,   mean over the classes present

    TP sums a class's probability over the pixels labelled with it, FP over the other valid pixels of the batch, FN sums
    1 - p over the pixels labelled with it. α = β = ½ is Dice, α = β = 1 Jaccard.

    Source: Salehi et al., "Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep Networks",
        MLMI 2017, arXiv:1706.05721; γ: Abraham and Khan, "A Novel Focal Tversky Loss", ISBI 2019, arXiv:1810.07842.
    Differs: γ is the exponent itself; Abraham and Khan write 1 / γ, and sum over the classes.

    Args:
        alpha: α >= 0, what a false pixel counts.
        beta: β >= 0, what a missed pixel counts; above α it favours recall.
        gamma: γ > 0; larger turns to the classes that overlap least.
        smooth: s >= 0 pixels; larger forgives errors in small regions.
        per_image: overlaps of each image, then their mean; False takes the batch as one image.
        background: False leaves class 0 out.
        convention: what a class counts for that the labels do not hold, and where γ stands:
            "house": nothing, it is not in the mean; γ on each class;
            "smp": 0, yet it is in the mean; γ on the mean;
            "monai": what the formula gives, near 1; γ on each class. MONAI's own defaults are
            `smooth=1e-5, per_image=True` too.

    Shape: logits (N, K, H, W), K >= 2; labels (N, H, W).

    Returns (of forward):
        No unit, 0 … 1; 0 when every pixel has probability 1 for its label.

    Raises:
        ValueError: `alpha`, `beta` or `smooth` is below 0, `gamma` not above 0; `convention` is unknown; sizes differ.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        smooth: float = 0.0,
        per_image: bool = False,
        background: bool = True,
        convention: str = "house",
    ) -> None:
        super().__init__()
        check_at_least(0, alpha=alpha, beta=beta, smooth=smooth)
        check_known(CONVENTIONS, convention=convention)
        check_above(0, gamma=gamma)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.smooth = smooth
        self.per_image = per_image
        self.background = background
        self.convention = convention

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(1 - Tversky index)^γ, mean over classes."""
        shared, predicted, labelled = overlap(logits, labels, per_image=self.per_image, background=self.background)
        errors = self.alpha * (predicted - shared) + self.beta * (labelled - shared)
        loss = 1 - (shared + self.smooth) / (shared + errors + self.smooth).clamp(min=LEAST)
        # Below 0, where rounding may carry it, a power has no value; at 0 its slope is infinite for γ < 1.
        loss = loss.clamp(min=torch.finfo(loss.dtype).tiny)
        if self.convention == "smp":
            return over_classes(loss, labelled, "smp") ** self.gamma
        return over_classes(loss**self.gamma, labelled, self.convention)
