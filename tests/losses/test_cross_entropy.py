import math

import numpy as np
import pytest
import torch

from kd.losses import CrossEntropy


def test_weights_by_hand() -> None:
    # Two pixels with probabilities 3/4 and 1/4 for their labels, which have weights 1 and 3.
    logits = torch.tensor([[math.log(3.0), math.log(3.0)], [0.0, 0.0]]).view(1, 2, 1, 2)
    labels = torch.tensor([0, 1]).view(1, 1, 2)
    by_hand = (1 * -math.log(0.75) + 3 * -math.log(0.25)) / 4
    assert CrossEntropy(weight=[1, 3])(logits, labels).item() == pytest.approx(by_hand)


def test_smoothing_and_ignored_pixels_by_formula() -> None:
    random = np.random.default_rng(7)
    logits = random.normal(size=(2, 3, 2, 2))
    labels = np.array([[[0, 255], [1, 2]], [[2, 2], [255, 255]]])
    terms = []
    for n, i, j in zip(*np.nonzero(labels != 255), strict=True):
        row = logits[n, :, i, j]
        logs = row - np.log(np.exp(row).sum())
        target = np.full(3, 0.3 / 3)
        target[labels[n, i, j]] += 0.7
        terms.append(-np.sum(target * logs))
    ours = CrossEntropy(label_smoothing=0.3)(torch.from_numpy(logits), torch.from_numpy(labels))
    assert ours.item() == pytest.approx(np.mean(terms), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_only_classes_of_weight_zero_give_zero(smoothing: float) -> None:
    logits, labels = torch.randn(1, 2, 3, 3, requires_grad=True), torch.ones(1, 3, 3, dtype=torch.long)
    result = CrossEntropy(weight=[1.0, 0.0], label_smoothing=smoothing)(logits, labels)
    result.backward()
    assert result == 0
    assert not logits.grad.any()


def test_labels_may_have_eight_bits() -> None:
    logits, labels = torch.randn(1, 2, 3, 3), torch.tensor([0, 1, 255] * 3, dtype=torch.uint8).view(1, 3, 3)
    torch.testing.assert_close(CrossEntropy()(logits, labels), CrossEntropy()(logits, labels.long()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": [float("nan"), 1.0]}, r"weight is \[nan, 1.0\]; every factor must be >= 0"),
        ({"weight": [1.0, -0.5]}, r"weight is \[1.0, -0.5\]; every factor must be >= 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing is 1.0; it must be in \[0, 1\)"),
        ({"label_smoothing": -0.1}, r"label_smoothing is -0.1; it must be in \[0, 1\)"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossEntropy(**options)


def test_one_weight_per_class() -> None:
    with pytest.raises(ValueError, match="weight has 2 values, the logits 3 classes"):
        CrossEntropy(weight=[1, 1])(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long))
