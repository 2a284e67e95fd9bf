import math

import numpy as np
import pytest
import torch

from kd.losses import Dice, Jaccard, Tversky


def test_index_by_hand() -> None:
    # Probabilities of class 1: 3/4, 3/4, 1/4; labels 1, 0, 1: TP = 1, FP = 3/4, FN = 1.
    z = math.log(3.0)
    logits = torch.tensor([[0.0, 0.0, 0.0], [z, z, -z]]).view(1, 2, 1, 3)
    labels = torch.tensor([1, 0, 1]).view(1, 1, 3)
    index = 1 / (1 + 0.2 * 3 / 4 + 0.6 * 1)
    assert Tversky(0.2, 0.6, background=False)(logits, labels).item() == pytest.approx(1 - index)
    smooth = (1 + 2) / (1 + 0.2 * 3 / 4 + 0.6 * 1 + 2)
    assert Tversky(0.2, 0.6, smooth=2, background=False)(logits, labels).item() == pytest.approx(1 - smooth)


def test_gamma_on_each_class_or_on_the_mean() -> None:
    random = np.random.default_rng(9)
    logits, labels = random.normal(size=(2, 3, 4, 4)), random.integers(0, 3, size=(2, 4, 4))
    labels[0, 0] = 255
    seen = labels != 255
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    losses = []
    for c in range(3):
        q, y = p[:, c][seen], (labels == c)[seen]
        hit = np.sum(q * y)
        losses.append(1 - hit / (hit + 0.3 * np.sum(q * ~y) + 0.7 * np.sum((1 - q) * y)))
    maps = torch.from_numpy(logits), torch.from_numpy(labels)
    for gamma in (0.75, 2.0):
        default = np.mean(np.power(losses, gamma))
        assert Tversky(gamma=gamma)(*maps).item() == pytest.approx(default, rel=1e-12)
        on_mean = np.mean(losses) ** gamma
        assert Tversky(gamma=gamma, convention="smp")(*maps).item() == pytest.approx(on_mean, rel=1e-12)


def test_halves_are_dice_and_ones_jaccard() -> None:
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    torch.testing.assert_close(Tversky(0.5, 0.5)(logits, labels), Dice()(logits, labels))
    torch.testing.assert_close(Tversky(1.0, 1.0)(logits, labels), Jaccard()(logits, labels))


def test_a_class_without_errors_adds_nothing() -> None:
    """Class 2 does not occur and α is 0: its index is s / s and its loss 0 for every γ."""
    logits = torch.zeros(1, 3, 1, 2, dtype=torch.float64)
    labels = torch.tensor([[[0, 1]]])
    loss = Tversky(alpha=0.0, beta=1.0, gamma=0.5, smooth=1.0, convention="monai")(logits, labels)
    per_class = 1 - (1 / 3 + 1) / (1 / 3 + 2 / 3 + 1)
    assert loss.item() == pytest.approx(2 / 3 * per_class**0.5, rel=1e-12)


@pytest.mark.parametrize("gamma", [0.75, 1.0, 4 / 3])
def test_gradient_is_finite_at_the_target(gamma: float) -> None:
    labels = torch.randint(0, 3, (1, 4, 4))
    logits = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).mul(1e3).requires_grad_()
    Tversky(gamma=gamma)(logits, labels).backward()
    assert logits.grad.isfinite().all()


def test_bad_options() -> None:
    with pytest.raises(ValueError, match=r"alpha is -0\.1; it must be at least 0"):
        Tversky(alpha=-0.1)
    with pytest.raises(ValueError, match="gamma is 0; it must be above 0"):
        Tversky(gamma=0)
