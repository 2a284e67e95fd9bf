import math

import numpy as np
import pytest
import torch

from kd.losses import Dice, Jaccard


def test_overlap_by_hand() -> None:
    # Probabilities of class 1: 3/4, 3/4, 1/4; labels 1, 0, 1.
    z = math.log(3.0)
    logits = torch.tensor([[0.0, 0.0, 0.0], [z, z, -z]]).view(1, 2, 1, 3)
    labels = torch.tensor([1, 0, 1]).view(1, 1, 3)
    first, zeroth = 1 / (7 / 4 + 2 - 1), (1 / 4) / (5 / 4 + 1 - 1 / 4)
    assert Jaccard()(logits, labels).item() == pytest.approx(1 - (first + zeroth) / 2)
    assert Jaccard(smooth=3, background=False)(logits, labels).item() == pytest.approx(1 - (1 + 3) / (11 / 4 + 3))
    assert Jaccard(log=True, background=False)(logits, labels).item() == pytest.approx(-math.log(first))


def test_decisions_give_the_intersection_over_union() -> None:
    random = np.random.default_rng(6)
    labels, decided = random.integers(0, 3, size=(2, 2, 5, 5))
    labels[0, 0] = 255
    logits = torch.nn.functional.one_hot(torch.from_numpy(decided), 3).movedim(-1, 1) * 1e3
    seen = labels != 255
    ious = [np.sum((labels == c) & (decided == c)) / np.sum(((labels == c) | (decided == c)) & seen) for c in range(3)]
    assert Jaccard()(logits.double(), torch.from_numpy(labels)).item() == pytest.approx(1 - np.mean(ious), rel=1e-12)


def test_dice_follows_from_jaccard_for_one_class() -> None:
    logits, labels = torch.randn(2, 2, 4, 4, dtype=torch.float64), torch.randint(0, 2, (2, 4, 4))
    dice, jaccard = (1 - loss(background=False)(logits, labels) for loss in (Dice, Jaccard))
    torch.testing.assert_close(jaccard, dice / (2 - dice))
    # MONAI doubles numerator and denominator of Jaccard's fraction, but not the smoothing.
    monai = Jaccard(smooth=1, convention="monai")(logits, labels)
    torch.testing.assert_close(monai, Jaccard(smooth=0.5)(logits, labels))
