"""Dice and focal loss together."""

from collections.abc import Sequence

from jaxtyping import Float, Integer
from torch import Tensor, nn

from kd.losses._checks import check_at_least
from kd.losses.supervised.dice import Dice
from kd.losses.supervised.focal import Focal


class DiceFocal(nn.Module):
    """Dice and focal loss: Dice for regions of every size, the focal loss for pixels that are still wrong.

        loss = a · Dice + b · Focal

    Source: Zhu et al., "AnatomyNet", Medical Physics 2019, arXiv:1808.05238.
    Differs: a = b = ½; Dice includes class 0 unless `background` is False.

    Args:
        dice: a >= 0.
        focal: b >= 0.
        gamma: γ >= 0 of the focal loss.
        alpha: α of the focal loss: a number, or one per class.
        smooth: s >= 0 pixels, of Dice.
        background: False leaves class 0 out of Dice.
        weight: class factors of the focal loss: one per class, or a name as in `CrossEntropy`.
        label_counts: pixels of each class in the training labels; the engine supplies it.

    Returns (of forward):
        Nats and shares of overlap added up, >= 0.

    Raises:
        ValueError: a or b is below 0; one of the two losses refuses its arguments.
    """

    def __init__(
        self,
        dice: float = 0.5,
        focal: float = 0.5,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        smooth: float = 0.0,
        background: bool = True,
        weight: Sequence[float] | str | None = None,
        label_counts: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_at_least(0, dice=dice, focal=focal)
        self.factors = (dice, focal)
        self.dice = Dice(smooth, background=background)
        self.focal = Focal(gamma, alpha, weight, label_counts)

    def forward(self, logits: Float[Tensor, "N K H W"], labels: Integer[Tensor, "_N _H _W"]) -> Float[Tensor, ""]:
        """The weighted sum of the two."""
        a, b = self.factors
        result: Tensor = a * self.dice(logits, labels) + b * self.focal(logits, labels)
        return result
