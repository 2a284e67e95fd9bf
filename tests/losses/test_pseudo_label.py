import math

import pytest
import torch

from kd.losses import PseudoLabel

# Three pixels: the teacher gives class 0 with 0.9, class 1 with 0.6, class 0 with 0.55.
TEACHER = torch.tensor([[0.9, 0.4, 0.55], [0.1, 0.6, 0.45]]).log().view(1, 2, 1, 3)
STUDENT = torch.tensor([[0.7, 0.8, 0.1], [0.3, 0.2, 0.9]]).log().view(1, 2, 1, 3)


@pytest.mark.parametrize(
    ("threshold", "taken"),
    [(0.5, [0.7, 0.2, 0.1]), (0.58, [0.7, 0.2]), (0.8, [0.7]), ([0.8, 0.5], [0.7, 0.2]), ([0.5, 0.7], [0.7, 0.1])],
)
def test_sure_pixels_by_hand(threshold: float | list[float], taken: list[float]) -> None:
    by_hand = sum(-math.log(p) for p in taken) / len(taken)
    assert PseudoLabel(threshold)(STUDENT, TEACHER, None).item() == pytest.approx(by_hand, rel=1e-5)


def test_no_confident_pixel_gives_zero() -> None:
    student = STUDENT.clone().requires_grad_()
    result = PseudoLabel(0.95)(student, TEACHER, None)
    result.backward()
    assert result == 0
    assert not student.grad.any()


def test_ignored_pixels_have_no_gradient() -> None:
    labels = torch.tensor([[[255, 0, 255]]])
    assert PseudoLabel(0.5)(STUDENT, TEACHER, labels).item() == pytest.approx(-math.log(0.2), rel=1e-5)


@pytest.mark.parametrize("threshold", [1.5, -0.1, [0.5, 2.0], []])
def test_thresholds_are_probabilities(threshold: float | list[float]) -> None:
    with pytest.raises(ValueError, match=r"threshold is .*; every probability must be in \[0, 1\]"):
        PseudoLabel(threshold)


def test_one_threshold_per_class() -> None:
    with pytest.raises(ValueError, match="threshold has 3 values, the logits 2 classes"):
        PseudoLabel([0.5, 0.5, 0.5])(STUDENT, TEACHER, None)
