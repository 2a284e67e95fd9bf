import math

import pytest
import torch

from kd.losses import Combined, CrossEntropy, Dice, Focal

# Two pixels with probabilities 3/4 and 1/4 for their labels, 0 and 1.
LOGITS = torch.tensor([[math.log(3.0), math.log(3.0)], [0.0, 0.0]]).view(1, 2, 1, 2)
LABELS = torch.tensor([0, 1]).view(1, 1, 2)


def test_sum_by_hand() -> None:
    cross_entropy = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    dice = 1 - (2 * (3 / 4) / (6 / 4 + 1) + 2 * (1 / 4) / (2 / 4 + 1)) / 2
    focal = ((1 / 4) ** 2 * -math.log(3 / 4) + (3 / 4) ** 2 * -math.log(1 / 4)) / 2
    assert Combined()(LOGITS, LABELS).item() == pytest.approx(cross_entropy + dice + focal)
    by_hand = 0.2 * cross_entropy + 0.3 * dice + 0.5 * focal
    assert Combined(0.2, 0.3, 0.5)(LOGITS, LABELS).item() == pytest.approx(by_hand)


def test_options_reach_their_losses() -> None:
    logits, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    ours = Combined(gamma=1.5, alpha=[1, 2, 3], weight="inverse_log", label_smoothing=0.1, label_counts=[5, 3, 1])
    parts = (
        CrossEntropy("inverse_log", 0.1, label_counts=[5, 3, 1]),
        Dice(),
        Focal(1.5, [1, 2, 3], "inverse_log", label_counts=[5, 3, 1]),
    )
    torch.testing.assert_close(ours(logits, labels), sum(part(logits, labels) for part in parts))


def test_factors_are_not_negative() -> None:
    with pytest.raises(ValueError, match="dice is -1; it must be at least 0"):
        Combined(dice=-1)
