import numpy as np
import pytest
import torch
from one_hot import one_hot

from kd.metrics import BoundaryIoU, Confusion


def scored(labels, predictions, num_classes, **args):
    metric = BoundaryIoU(num_classes, **args)
    metric.update(labels, one_hot(predictions, num_classes))
    return metric.value(metric.state())


def eroded(mask):
    """A mask without the pixels that touch, corners included, a pixel outside it or the edge of the image."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    shifted = [padded[top : top + height, left : left + width] for top in range(3) for left in range(3)]
    return np.all(shifted, axis=0)


def band(mask, distance):
    inner = mask
    for _ in range(distance):
        inner = eroded(inner)
    return mask & ~inner


def by_masks(pairs, num_classes, ratio):
    """Intersections and unions of each class, one mask at a time."""
    sums = np.zeros((2, num_classes), int)
    for labels, predictions in pairs:
        distance = max(1, round(ratio * float(np.sqrt(labels.shape[0] ** 2 + labels.shape[1] ** 2))))
        for index in range(num_classes):
            truth = band(labels == index, distance)
            found = band((predictions == index) & (labels != 255), distance)
            sums[:, index] += (truth & found).sum(), (truth | found).sum()
    return sums


def test_two_shifted_squares_by_hand():
    # 3 × 3 in 5 × 5, one column apart, d = 1. Square: two rings of 8, 4 pixels in both, 12 in either. Around it: all
    # 16 pixels are near an edge on both sides, 13 in both, 19 in either.
    labels, predictions = torch.zeros(2, 5, 5, dtype=torch.int64)
    labels[1:4, 1:4] = 1
    predictions[1:4, 2:5] = 1
    values = scored(labels, predictions, 3)
    assert values == {"mean": (4 / 12 + 13 / 19) / 2, "class 0": 13 / 19, "class 1": 4 / 12, "class 2": None}


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.6])
def test_equal_to_masks_eroded_one_by_one(ratio):
    generator = torch.Generator().manual_seed(0)
    metric, pairs = BoundaryIoU(4, ratio), []
    for height, width in ((40, 60), (33, 17), (64, 64), (1, 9), (50, 50)):
        coarse = torch.randint(0, 4, (2, height // 8 + 1, width // 8 + 1), generator=generator)
        labels, predictions = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width]
        noise = torch.rand(2, height, width, generator=generator)
        labels, predictions = labels.clone(), torch.where(noise[0] < 0.02, (predictions + 1) % 4, predictions)
        labels[noise[1] < 0.01] = 255
        labels[: height // 6] = 255
        metric.update(labels, one_hot(predictions, 4))
        pairs.append((labels.numpy(), predictions.numpy()))
    intersection, union = by_masks(pairs, 4, ratio)
    state = metric.state()
    assert 0 < intersection.sum() < union.sum()
    assert state["intersection"].tolist() == intersection.tolist()
    assert state["union"].tolist() == union.tolist()
    assert metric.value(state)["mean"] == pytest.approx((intersection / union).mean(), abs=1e-15)


def test_the_prediction_at_an_ignored_pixel_changes_nothing():
    labels, predictions = torch.randint(0, 3, (2, 20, 20))
    labels[5:9] = 255
    others = predictions.clone()
    others[5:9] = torch.randint(0, 3, (4, 20))
    assert scored(labels, predictions, 3) == scored(labels, others, 3)


def test_a_perfect_contour_is_1_and_a_class_only_predicted_is_0():
    labels = torch.zeros(30, 30, dtype=torch.int64)
    labels[10:20, 10:20] = 1
    assert scored(labels, labels, 3) == {"mean": 1.0, "class 0": 1.0, "class 1": 1.0, "class 2": None}
    assert scored(labels, torch.where(labels == 1, 2, labels), 3)["class 2"] == 0.0
    nothing = torch.full((4, 4), 255)
    assert set(scored(nothing, torch.zeros(4, 4, dtype=torch.int64), 3).values()) == {None}


def test_large_objects_hide_a_wrong_contour_from_iou_alone():
    labels = torch.zeros(100, 100, dtype=torch.int64)
    labels[10:90, 10:90] = 1
    predictions = torch.zeros_like(labels)
    predictions[12:88, 12:88] = 1
    confusion = Confusion(2)
    confusion.update(labels, one_hot(predictions, 2))
    assert confusion.value(confusion.state())["miou"] > 0.85
    assert scored(labels, predictions, 2)["class 1"] < 0.35


def test_the_number_of_classes_reaches_254():
    labels = torch.randint(0, 254, (16, 16))
    assert scored(labels, labels, 254)["mean"] == 1.0


@pytest.mark.parametrize("ratio", [0, 1, -0.1])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(ValueError, match=rf"^ratio must be above 0 and below 1, got {ratio}$"):
        BoundaryIoU(2, ratio)


@pytest.mark.gpu
def test_boundary_iou_on_a_gpu():
    labels, predictions = torch.randint(0, 5, (2, 40, 60))
    metric = BoundaryIoU(5)
    metric.update(labels.cuda(), one_hot(predictions, 5).cuda())
    assert metric.value(metric.state()) == scored(labels, predictions, 5)
