"""Expected calibration error: by hand, and against torchmetrics."""

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from kd.metrics import CalibrationError


def scored(labels, probabilities, **args):
    metric = CalibrationError(**args)
    metric.update(labels, probabilities)
    return metric.value(metric.state())


def test_two_bins_by_hand():
    # Confidence 0.9, 0.7 and 0.6, all in (0.5, 1]; two of three are right: | 2/3 − 2.2/3 | = 0.2 / 3.
    probabilities = torch.tensor([[[0.9, 0.7, 0.4]], [[0.1, 0.3, 0.6]]])
    values = scored(torch.tensor([[0, 1, 1]]), probabilities, bins=2)
    assert values == {
        "ece": pytest.approx(0.2 / 3),
        "share 0": 0.0,
        "confidence 0": None,
        "accuracy 0": None,
        "share 1": 1.0,
        "confidence 1": pytest.approx(2.2 / 3),
        "accuracy 1": pytest.approx(2 / 3),
    }


def test_equal_to_torchmetrics_on_random_images():
    generator = torch.Generator().manual_seed(0)
    for case in range(200):
        classes, bins = 2 + case % 5, (10, 15, 20)[case % 3]
        sharpness = 0.5 + case % 7
        probabilities = (sharpness * torch.randn(classes, 9, 11, generator=generator)).softmax(0)
        labels = torch.randint(0, classes, (9, 11), generator=generator)
        labels[torch.rand(9, 11, generator=generator) < 0.1] = 255
        theirs = multiclass_calibration_error(
            probabilities[None], labels[None], num_classes=classes, n_bins=bins, norm="l1", ignore_index=255
        )
        assert scored(labels, probabilities, bins=bins)["ece"] == pytest.approx(theirs.item(), abs=1e-6)


def test_a_certain_and_right_network_has_no_error():
    labels = torch.tensor([[0, 1], [1, 0]])
    probabilities = torch.nn.functional.one_hot(labels, 2).movedim(2, 0).float()
    assert scored(labels, probabilities)["ece"] == 0.0


def test_without_a_bin_it_is_refused():
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        CalibrationError(0)
