"""Dice and cross entropy together."""

from collections.abc import Sequence

from jaxtyping import Float, Integer
from torch import Tensor, nn

from kd.losses._checks import check_at_least
from kd.losses.supervised.cross_entropy import CrossEntropy
from kd.losses.supervised.dice import Dice


class DiceCE(nn.Module):
    """Dice and cross entropy: Dice for regions of every size, cross entropy for a gradient at every pixel.

        loss = a · Dice + b · CrossEntropy

    For a network with one output channel, whose logits reach a loss as (0, z), this is Dice plus binary cross entropy.

    Source: Isensee et al., "nnU-Net: Self-adapting Framework for U-Net-Based Medical Image Segmentation", 2018,
        arXiv:1809.10486, with a = b = 1.
    Differs: a = b = ½, so that the sum stays as large as one loss; Dice includes class 0 unless `background` is False.

    Args:
        dice: a >= 0.
        cross_entropy: b >= 0.
        smooth: s >= 0 pixels, of Dice.
        background: False leaves class 0 out of Dice: with two classes, the Dice of the object remains.
        weight: class factors of the cross entropy: one per class, or a name as in `CrossEntropy`.
        label_smoothing: of the cross entropy, in [0, 1).
        label_counts: pixels of each class in the training labels; the engine supplies it.

    Returns (of forward):
        Nats and shares of overlap added up, >= 0.

    Raises:
        ValueError: a or b is below 0; one of the two losses refuses its arguments.
    """

    def __init__(
        self,
        dice: float = 0.5,
        cross_entropy: float = 0.5,
        smooth: float = 0.0,
        background: bool = True,
        weight: Sequence[float] | str | None = None,
        label_smoothing: float = 0.0,
        label_counts: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_at_least(0, dice=dice, cross_entropy=cross_entropy)
        self.factors = (dice, cross_entropy)
        self.dice = Dice(smooth, background=background)
        self.cross_entropy = CrossEntropy(weight, label_smoothing, label_counts)

    def forward(self, logits: Float[Tensor, "N K H W"], labels: Integer[Tensor, "_N _H _W"]) -> Float[Tensor, ""]:
        """The weighted sum of the two."""
        a, b = self.factors
        result: Tensor = a * self.dice(logits, labels) + b * self.cross_entropy(logits, labels)
        return result
