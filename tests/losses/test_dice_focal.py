import math

import pytest
import torch

from kd.losses import Dice, DiceFocal, Focal


def test_sum_by_hand() -> None:
    # Two pixels with probabilities 3/4 and 1/4 for their labels, 0 and 1.
    logits = torch.tensor([[math.log(3.0), math.log(3.0)], [0.0, 0.0]]).view(1, 2, 1, 2)
    labels = torch.tensor([0, 1]).view(1, 1, 2)
    dice = 1 - (2 * (3 / 4) / (6 / 4 + 1) + 2 * (1 / 4) / (2 / 4 + 1)) / 2
    focal = ((1 / 4) ** 2 * -math.log(3 / 4) + (3 / 4) ** 2 * -math.log(1 / 4)) / 2
    assert DiceFocal()(logits, labels).item() == pytest.approx(0.5 * dice + 0.5 * focal)


def test_options_reach_their_losses() -> None:
    logits, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    ours = DiceFocal(2, 3, 1.5, [1, 2, 3], smooth=4, background=False, weight="inverse_log", label_counts=[5, 3, 1])
    parts = (
        2 * Dice(4, background=False)(logits, labels),
        3 * Focal(1.5, [1, 2, 3], "inverse_log", label_counts=[5, 3, 1])(logits, labels),
    )
    torch.testing.assert_close(ours(logits, labels), sum(parts))


def test_factors_are_not_negative() -> None:
    with pytest.raises(ValueError, match="focal is -1; it must be at least 0"):
        DiceFocal(focal=-1)
