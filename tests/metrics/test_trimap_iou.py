"""Trimap IoU: by hand, and against bands grown pixel by pixel."""

import numpy as np
import pytest
import torch
from one_hot import one_hot

from kd.metrics import TrimapIoU
from kd.metrics.confusion import confusion_matrix, scores


def scored(labels, predictions, classes, **args):
    metric = TrimapIoU(classes, **args)
    metric.update(labels, one_hot(predictions, classes))
    return metric.value(metric.state())


def test_a_vertical_boundary_by_hand():
    # Two halves of 4 × 8, a band of 4 × 2 on each side: a mistake far away is not seen, one in the band is.
    labels = torch.zeros(4, 16, dtype=torch.int64)
    labels[:, 8:] = 1
    far, near = labels.clone(), labels.clone()
    far[:, :5] = 1
    near[:, 7] = 1
    assert scored(labels, far, 2, width=2)["miou"] == 1.0
    assert scored(labels, near, 2, width=2) == {
        "miou": (4 / 8 + 8 / 12) / 2,
        "class 0": 4 / 8,
        "class 1": 8 / 12,
    }


def band(labels, width):
    """Pixels with another label at most `width` rows and columns away, one window at a time."""
    height, length = labels.shape
    near = np.zeros(labels.shape, bool)
    for row in range(height):
        for column in range(length):
            window = labels[max(0, row - width) : row + width + 1, max(0, column - width) : column + width + 1]
            near[row, column] = (window != labels[row, column]).any()
    return near


@pytest.mark.parametrize("width", [1, 3, 6])
def test_equal_to_windows_one_by_one(width):
    generator = torch.Generator().manual_seed(width)
    for _ in range(10):
        labels = torch.randint(0, 3, (4, 5), generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1)
        labels[:2, :6] = 255
        predictions = torch.randint(0, 3, labels.shape, generator=generator)
        kept = torch.tensor(band(labels.numpy(), width))
        expected = scores(confusion_matrix(labels.masked_fill(~kept, 255), predictions, 3).numpy())
        assert scored(labels, predictions, 3, width=width)["miou"] == expected.miou


def test_an_image_of_one_label_has_no_band():
    labels = torch.zeros(4, 4, dtype=torch.int64)
    assert scored(labels, labels, 2) == {"miou": None, "class 0": None, "class 1": None}


def test_a_band_without_width_is_refused():
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        TrimapIoU(2, 0)
