"""Cross entropy, Dice and focal loss together."""

from collections.abc import Sequence

from jaxtyping import Float, Integer
from torch import Tensor, nn

from kd.losses._checks import check_at_least
from kd.losses.supervised.cross_entropy import CrossEntropy
from kd.losses.supervised.dice import Dice
from kd.losses.supervised.focal import Focal


class Combined(nn.Module):
    """Combined loss: cross entropy for every pixel, Dice for small regions, the focal loss for hard pixels.

        loss = a · CrossEntropy + b · Dice + c · Focal

    Source: the sum of three losses of this package; their docstrings name the sources.
    Differs: nothing.

    Args:
        cross_entropy: a >= 0.
        dice: b >= 0.
        focal: c >= 0.
        gamma: γ >= 0 of the focal loss.
        alpha: α of the focal loss: a number, or one per class.
        weight: class factors of the cross entropy and the focal loss: one per class, or a name as in `CrossEntropy`.
        label_smoothing: of the cross entropy, in [0, 1).
        label_counts: pixels of each class in the training labels; the engine supplies it.

    Returns (of forward):
        Nats and shares of overlap added up, >= 0.

    Raises:
        ValueError: a, b or c is below 0; one of the three losses refuses its arguments.
    """

    def __init__(
        self,
        cross_entropy: float = 1.0,
        dice: float = 1.0,
        focal: float = 1.0,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        weight: Sequence[float] | str | None = None,
        label_smoothing: float = 0.0,
        label_counts: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_at_least(0, cross_entropy=cross_entropy, dice=dice, focal=focal)
        self.factors = (cross_entropy, dice, focal)
        self.cross_entropy = CrossEntropy(weight, label_smoothing, label_counts)
        self.dice = Dice()
        self.focal = Focal(gamma, alpha, weight, label_counts)

    def forward(self, logits: Float[Tensor, "N K H W"], labels: Integer[Tensor, "_N _H _W"]) -> Float[Tensor, ""]:
        """The weighted sum of the three."""
        a, b, c = self.factors
        regions: Tensor = b * self.dice(logits, labels)
        pixels: Tensor = a * self.cross_entropy(logits, labels) + c * self.focal(logits, labels)
        return pixels + regions
