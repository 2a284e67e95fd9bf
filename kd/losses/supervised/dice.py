"""Dice loss."""

from jaxtyping import Float, Integer
from torch import Tensor, nn

from kd.losses._checks import check_at_least, check_known
from kd.losses.supervised._overlap import CONVENTIONS, mean_loss, overlap


class Dice(nn.Module):
    """Dice loss: the overlap of the predicted and the labelled region of each class, whatever their size.

        loss = 1 - (2 · |P ∩ Y| + s) / (|P| + |Y| + s),   mean over the classes that the labels hold

    |P| sums a class's probability over the valid pixels of the batch, |P ∩ Y| over those labelled with it; |Y| is the
    number of the latter.

    Source: Milletari et al., "V-Net", 3DV 2016, arXiv:1606.04797.
    Differs: V-Net squares the probabilities in |P|; without the square, as in most code, the gradient does not vanish
        at p = 0.

    Args:
        smooth: s >= 0 pixels; larger tolerates errors in small regions.
        per_image: compute the overlaps of each image, then their mean; False treats the batch as one image.
        background: False leaves class 0 out.
        log: minus the logarithm of the overlap instead of 1 minus the overlap.
        convention: which code's value the loss returns, for a class that the labels do not hold and for s:
            "default": the class is not in the mean;
            "smp": the class is 0 in the mean: the default times the share of classes present; its s is 2·s here;
            "monai": the class has the value of the formula, near 1. MONAI's own defaults also set
            `smooth=1e-5, per_image=True`.

    Returns (of forward):
        No unit, 0 … 1 (with `log` 0 … 16); 0 if every pixel has probability 1 for its label.

    Raises:
        ValueError: `smooth` is below 0; `convention` is unknown; the sizes differ.
    """

    def __init__(
        self,
        smooth: float = 0.0,
        per_image: bool = False,
        background: bool = True,
        log: bool = False,
        convention: str = "default",
    ) -> None:
        super().__init__()
        check_at_least(0, smooth=smooth)
        check_known(CONVENTIONS, convention=convention)
        self.smooth = smooth
        self.per_image = per_image
        self.background = background
        self.log = log
        self.convention = convention

    def forward(self, logits: Float[Tensor, "N K H W"], labels: Integer[Tensor, "_N _H _W"]) -> Float[Tensor, ""]:
        """1 minus the Dice coefficient, mean over classes."""
        sizes = overlap(logits, labels, per_image=self.per_image, background=self.background)
        shared, predicted, labelled, _ = sizes
        smooth = 2 * self.smooth if self.convention == "smp" else self.smooth
        numerator, denominator = 2 * shared + smooth, predicted + labelled + smooth
        return mean_loss(numerator, denominator, sizes, log=self.log, convention=self.convention)
