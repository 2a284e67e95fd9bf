import math

import numpy as np
import pytest
import torch

from kd.losses import OHEM, CrossEntropy


def of_probabilities(*probabilities: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that give label 0 these probabilities, in one row of pixels."""
    logits = torch.tensor([[math.log(p) for p in probabilities], [math.log(1 - p) for p in probabilities]])
    return logits.double().view(1, 2, 1, -1), torch.zeros(1, 1, len(probabilities), dtype=torch.long)


def test_hard_pixels_by_hand() -> None:
    logits, labels = of_probabilities(0.9, 0.1, 0.6, 0.95)
    by_hand = -(math.log(0.1) + math.log(0.6)) / 2
    assert OHEM(threshold=0.7)(logits, labels).item() == pytest.approx(by_hand, rel=1e-6)


def test_share_that_is_kept_by_hand() -> None:
    logits, labels = of_probabilities(0.9, 0.8, 0.85, 0.95)
    hardest, next_hardest = -math.log(0.8), -math.log(0.85)
    assert OHEM(keep=0.5)(logits, labels).item() == pytest.approx((hardest + next_hardest) / 2, rel=1e-6)
    # 1.5 pixels: the second has half the weight.
    assert OHEM(keep=0.375)(logits, labels).item() == pytest.approx((hardest + next_hardest / 2) / 1.5, rel=1e-6)


def test_formula_with_weights_and_ignored_pixels() -> None:
    random = np.random.default_rng(12)
    logits, labels = 2 * random.normal(size=(2, 3, 3, 3)), random.integers(0, 3, size=(2, 3, 3))
    labels[0, 0] = labels[1, 1, 1] = 255
    weight = np.array([1.0, 0.5, 4.0])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    values, hard = [], 0
    for n, i, j in zip(*np.nonzero(labels != 255), strict=True):
        y = labels[n, i, j]
        values.append(weight[y] * -np.log(p[n, y, i, j]))
        hard += p[n, y, i, j] <= 0.4
    k = max(hard, round(0.5 * len(values)))
    assert 0.5 * len(values) == round(0.5 * len(values))
    ours = OHEM(0.4, 0.5, weight.tolist())(torch.from_numpy(logits), torch.from_numpy(labels))
    assert ours.item() == pytest.approx(np.mean(sorted(values)[-k:]), rel=1e-12)


def test_keeping_all_is_cross_entropy() -> None:
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    labels[0, 0] = 255
    expected = CrossEntropy()(logits, labels)
    torch.testing.assert_close(OHEM(keep=1.0)(logits, labels), expected)
    torch.testing.assert_close(OHEM(threshold=1.0)(logits, labels), expected)


def test_only_hard_pixels_have_a_gradient() -> None:
    logits, labels = of_probabilities(0.9, 0.1, 0.6, 0.95)
    OHEM()(logits.requires_grad_(), labels).backward()
    assert logits.grad.any(1).flatten().tolist() == [False, True, True, False]


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.5}, {"keep": 0.0}, {"keep": 2.0}])
def test_bad_options(options: dict) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole text is compared below
        OHEM(**options)
    assert str(error.value) == f"{name} is {value}; it must be in (0, 1]"
