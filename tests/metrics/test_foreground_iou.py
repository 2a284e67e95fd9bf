"""The mean IoU without the background: by hand, and what is left out."""

import numpy as np
import pytest
import torch
from one_hot import one_hot

from kd.metrics import Confusion, ForegroundIoU


def scored(labels, predictions, classes=3, **args):
    metric = ForegroundIoU(classes, **args)
    metric.update(torch.tensor([labels]), one_hot(torch.tensor([predictions]), classes))
    return metric.value(metric.state())["foreground_miou"]


def test_by_hand():
    # class 1: 2 shared of 5 in the union; class 2: 1 of 2; the background, 3 of 5, is left out
    labels, predictions = [0, 0, 0, 0, 1, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1, 0, 2, 1]
    assert scored(labels, predictions) == pytest.approx((2 / 5 + 1 / 2) / 2)
    assert scored(labels, predictions, background=2) == pytest.approx((3 / 5 + 2 / 5) / 2)


def test_an_absent_class_and_ignored_pixels_are_left_out():
    assert scored([0, 1, 255, 255], [0, 1, 2, 0]) == 1.0
    assert scored([0, 0], [0, 0]) is None
    assert scored([0, 0], [0, 1]) == 0.0


def test_it_differs_from_the_miou_by_the_background_alone():
    random = np.random.default_rng(0)
    labels, predictions = (torch.tensor(random.integers(0, 4, (16, 16))) for _ in range(2))
    foreground, whole = ForegroundIoU(4), Confusion(4)
    for metric in (foreground, whole):
        metric.update(labels, one_hot(predictions, 4))
    state = whole.state()["confusion"]
    of_background = state[0, 0] / (state[0].sum() + state[:, 0].sum() - state[0, 0])
    without = foreground.value(foreground.state())["foreground_miou"]
    assert whole.value(whole.state())["miou"] == pytest.approx((3 * without + of_background) / 4)


def test_a_background_that_is_no_class():
    with pytest.raises(ValueError, match=r"^background must be 0 … 2, got 3$"):
        ForegroundIoU(3, background=3)
