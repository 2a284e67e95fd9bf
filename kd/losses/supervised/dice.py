"""Dice loss."""

from torch import Tensor, nn

from kd.losses._checks import check_at_least, check_known
from kd.losses.supervised._overlap import CONVENTIONS, mean_loss, overlap


class Dice(nn.Module):
    """Dice loss: how much the predicted and the labelled region of each class overlap, whatever their size.

        loss = 1 - (2 · |P ∩ Y| + s) / (|P| + |Y| + s),   mean over the classes that the labels hold

    |P| sums a class's probability over the valid pixels of the batch, |P ∩ Y| over those labelled with it, |Y| counts
    the latter.

    Source: Milletari et al., "V-Net", 3DV 2016, arXiv:1606.04797.
    Differs: V-Net squares the probabilities in |P|; without, as in most code, the gradient does not vanish at p = 0.

    Args:
        smooth: s >= 0 pixels; larger forgives errors in small regions.
        per_image: overlaps of each image, then their mean; False takes the batch as one image.
        background: False leaves class 0 out.
        log: minus the logarithm of the overlap in place of 1 minus it.
        convention: what a class counts for that the labels do not hold, and what s is:
            "house": nothing, it is not in the mean;
            "smp": 0, yet it is in the mean: the house value times the share of classes present; its s is 2·s here;
            "monai": what the formula gives, near 1. MONAI's own defaults are `smooth=1e-5, per_image=True` too.

    Shape: logits (N, K, H, W), K >= 2; labels (N, H, W).

    Returns (of forward):
        No unit, 0 … 1 (with `log` 0 … 16); 0 when every pixel has probability 1 for its label.

    Raises:
        ValueError: `smooth` is below 0; `convention` is unknown; sizes differ.
    """

    def __init__(
        self,
        smooth: float = 0.0,
        per_image: bool = False,
        background: bool = True,
        log: bool = False,
        convention: str = "house",
    ) -> None:
        super().__init__()
        check_at_least(0, smooth=smooth)
        check_known(CONVENTIONS, convention=convention)
        self.smooth = smooth
        self.per_image = per_image
        self.background = background
        self.log = log
        self.convention = convention

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """1 minus the Dice coefficient, mean over classes."""
        shared, predicted, labelled = overlap(logits, labels, per_image=self.per_image, background=self.background)
        smooth = 2 * self.smooth if self.convention == "smp" else self.smooth
        numerator, denominator = 2 * shared + smooth, predicted + labelled + smooth
        return mean_loss(numerator, denominator, labelled, log=self.log, convention=self.convention)
