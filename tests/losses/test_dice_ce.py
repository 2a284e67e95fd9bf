import numpy as np
import pytest
import torch

from kd.losses import CrossEntropy, Dice, DiceCE
from kd.types import as_classes


@pytest.mark.parametrize("background", [True, False])
def test_one_channel_is_binary_cross_entropy_and_dice(background: bool) -> None:
    random = np.random.default_rng(13)
    z, labels = random.normal(size=(2, 1, 3, 3)), random.integers(0, 2, size=(2, 3, 3))
    labels[0, 0] = 255
    seen = labels != 255
    p, y = 1 / (1 + np.exp(-z[:, 0][seen])), labels[seen]
    binary = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    dice_of_object = 2 * np.sum(p * y) / (p.sum() + y.sum())
    dice_of_rest = 2 * np.sum((1 - p) * (1 - y)) / ((1 - p).sum() + (1 - y).sum())
    dice = 1 - ((dice_of_object + dice_of_rest) / 2 if background else dice_of_object)
    logits = as_classes(torch.from_numpy(z))
    ours = DiceCE(background=background)(logits, torch.from_numpy(labels))
    assert ours.item() == pytest.approx(0.5 * binary + 0.5 * dice, rel=1e-12)


def test_options_reach_their_losses() -> None:
    logits, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    ours = DiceCE(2, 3, smooth=4, background=False, weight="inverse_log", label_smoothing=0.1, label_counts=[5, 3, 1])
    parts = (
        2 * Dice(4, background=False)(logits, labels),
        3 * CrossEntropy("inverse_log", 0.1, label_counts=[5, 3, 1])(logits, labels),
    )
    torch.testing.assert_close(ours(logits, labels), sum(parts))


def test_factors_are_not_negative() -> None:
    with pytest.raises(ValueError, match="dice is -1; it must be at least 0"):
        DiceCE(dice=-1)
