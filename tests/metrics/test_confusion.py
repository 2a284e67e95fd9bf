from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from kd.metrics import Scores, confusion_matrix, scores

ORACLES = Path(__file__).parents[1] / "oracles"


def scores_of(matrix: torch.Tensor) -> Scores:
    return scores(matrix.numpy())


def by_sets(
    labels: torch.Tensor, predictions: torch.Tensor, num_classes: int
) -> list[tuple[float | None, float | None]]:
    """(IoU, Dice) of each class, from sets of pixel places."""
    pairs = [p for p in zip(labels.flatten().tolist(), predictions.flatten().tolist(), strict=True) if p[0] != 255]
    found: list[tuple[float | None, float | None]] = []
    for label in range(num_classes):
        truth = {i for i, pair in enumerate(pairs) if pair[0] == label}
        guess = {i for i, pair in enumerate(pairs) if pair[1] == label}
        union = truth | guess
        found.append(
            (len(truth & guess) / len(union), 2 * len(truth & guess) / (len(truth) + len(guess)))
            if union
            else (None, None)
        )
    return found


def test_a_matrix_by_hand():
    labels = torch.tensor([[0, 0, 1], [2, 255, 1]])
    predictions = torch.tensor([[0, 1, 1], [0, 2, 1]])
    matrix = confusion_matrix(labels, predictions, 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert matrix.dtype == torch.int64
    result = scores_of(matrix)
    assert result.iou == (1 / 3, pytest.approx(2 / 3), 0.0, None)
    assert result.absent == (3,)
    assert result.miou == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert result.pixel_accuracy == pytest.approx(3 / 5)
    assert result.mean_accuracy == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert result.dice == (pytest.approx(1 / 2), pytest.approx(4 / 5), 0.0, None)
    assert result.mean_dice == pytest.approx((1 / 2 + 4 / 5 + 0) / 3)


def test_equal_to_sets_on_1000_random_cases():
    generator = torch.Generator().manual_seed(1)
    for _ in range(1000):
        num_classes = int(torch.randint(2, 7, (), generator=generator))
        shape = tuple(torch.randint(1, 6, (2,), generator=generator).tolist())
        labels = torch.randint(0, num_classes, shape, generator=generator)
        labels[torch.rand(shape, generator=generator) < 0.2] = 255
        predictions = torch.randint(0, num_classes, shape, generator=generator)
        result = scores_of(confusion_matrix(labels, predictions, num_classes))
        expected = by_sets(labels, predictions, num_classes)
        assert result.iou == tuple(iou for iou, _ in expected)
        assert result.dice == tuple(dice for _, dice in expected)
        present = [iou for iou, _ in expected if iou is not None]
        assert result.absent == tuple(i for i, (iou, _) in enumerate(expected) if iou is None)
        if present:
            assert result.miou == pytest.approx(sum(present) / len(present), abs=1e-12)


def test_matrices_of_parts_add_up_to_the_whole():
    labels, predictions = torch.randint(0, 5, (4, 9, 7)), torch.randint(0, 5, (4, 9, 7))
    parts = sum(confusion_matrix(one, other, 5) for one, other in zip(labels, predictions, strict=True))
    assert torch.equal(parts, confusion_matrix(labels, predictions, 5))


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_torchmetrics_where_the_definition_is_the_same(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (2, 9, 7), generator=generator)  # of 6 classes: 4 only predicted, 5 nowhere
    predictions = torch.randint(0, 5, (2, 9, 7), generator=generator)
    labels[0, :3] = 255
    matrix = confusion_matrix(labels, predictions, 6)
    assert torch.equal(matrix, MulticlassConfusionMatrix(6, ignore_index=255)(predictions, labels))
    ours = MulticlassJaccardIndex(6, average="macro", ignore_index=255)(predictions, labels).item()
    assert scores_of(matrix).miou == pytest.approx(ours, abs=1e-6)


def test_nothing_scored_is_nan_and_not_zero():
    result = scores_of(confusion_matrix(torch.full((2, 2), 255), torch.zeros(2, 2, dtype=torch.int64), 3))
    assert np.isnan(result.miou)
    assert np.isnan(result.pixel_accuracy)
    assert result.iou == (None, None, None)
    assert result.absent == (0, 1, 2)


def test_counts_beyond_float32_stay_exact():
    large = 2**24 + 1  # the first integer that float32 cannot hold
    assert scores_of(torch.tensor([[large, 0], [1, 0]])).iou[0] == large / (large + 1)


def test_eight_bit_labels_do_not_overflow():
    labels, predictions = torch.full((3, 3), 99, dtype=torch.uint8), torch.full((3, 3), 98)
    assert confusion_matrix(labels, predictions, 100)[99, 98] == 9


@pytest.mark.parametrize("num_classes", [2, 15, 16, 180, 181, 255, 300])  # on both sides of what 8 and 16 bits hold
def test_the_first_and_last_classes_are_counted_in_any_width(num_classes):
    last, label = num_classes - 1, min(num_classes - 1, 254)
    labels, predictions = torch.tensor([0, label, label, 255]), torch.tensor([last, 0, last, last])
    matrix = confusion_matrix(labels, predictions, num_classes)
    assert matrix.nonzero().tolist() == [[0, last], [label, 0], [label, last]]
    assert matrix.sum() == 3


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"labels \(4, 4\) and predictions \(2, 2\) differ in shape"):
        confusion_matrix(torch.zeros(4, 4), torch.zeros(2, 2), 2)


@pytest.mark.parametrize(("value", "shown"), [(3, "3"), (-1, "-1"), (254, "254"), (300, "300")])
def test_a_value_that_is_not_a_class_is_an_error(value, shown):
    labels = torch.zeros(2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=rf"labels hold {shown} \(1 pixel\), classes are 0 … 2; 255 marks"):
        confusion_matrix(labels.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(value)), labels, 3)
    with pytest.raises(ValueError, match=rf"predictions hold {shown} "):
        confusion_matrix(labels, torch.full((2, 2), value), 3)


def oracle(name: str) -> tuple[torch.Tensor, torch.Tensor, int, np.ndarray]:
    """Labels, predictions, number of classes and the peer's figures of a stored case."""
    with np.load(ORACLES / f"{name}.npz") as case:
        num_classes = 5 if name.endswith("odd") else 4
        return torch.from_numpy(case["in_target"]), torch.from_numpy(case["in_logits"]), num_classes, case["loss"]


@pytest.mark.parametrize("size", ["odd", "b1"])
def test_stored_confusion_matrix(size):
    labels, predictions, num_classes, expected = oracle(f"met_confmat_tm_ignore_{size}")
    assert confusion_matrix(labels, predictions, num_classes).tolist() == expected.tolist()


@pytest.mark.parametrize("size", ["odd", "b1"])
@pytest.mark.parametrize("ignore", ["", "_ignore"])
def test_stored_jaccard_index(size, ignore):
    labels, predictions, num_classes, expected = oracle(f"met_jaccard_tm_none{ignore}_{size}")
    matrix = confusion_matrix(labels, predictions, num_classes)
    result = scores_of(matrix)
    # every class of these cases is predicted somewhere, so that none is absent
    assert result.iou == pytest.approx(expected.tolist(), abs=1e-6)
    assert result.miou == pytest.approx(oracle(f"met_jaccard_tm_macro{ignore}_{size}")[3].item(), abs=1e-6)
    weighted = (torch.tensor(result.iou) * matrix.sum(1)).sum() / matrix.sum()
    assert weighted.item() == pytest.approx(oracle(f"met_jaccard_tm_weighted{ignore}_{size}")[3].item(), abs=1e-6)
    hits = matrix.diagonal().sum()
    micro = (hits / (2 * matrix.sum() - hits)).item()  # of all classes together
    assert micro == pytest.approx(oracle(f"met_jaccard_tm_micro{ignore}_{size}")[3].item(), abs=1e-6)


@pytest.mark.parametrize("size", ["odd", "b1"])
def test_stored_smp_iou(size):
    labels, predictions, num_classes, _ = oracle(f"met_confmat_tm_ignore_{size}")
    with np.load(ORACLES / f"met_iou_smp_ignore_{size}.npz") as case:
        assert np.array_equal(case["in_target"], labels.numpy())
        macro = case["loss1"].item()
    result = scores_of(confusion_matrix(labels, predictions, num_classes))
    assert result.miou == pytest.approx(macro, abs=1e-12)


@pytest.mark.parametrize("size", ["odd", "b1"])
def test_stored_mean_accuracy_counts_classes_without_labels(size):
    # Differs on purpose: the peer counts a class that has no labels as recall 0, ours is a mean over labelled classes.
    labels, predictions, num_classes, expected = oracle(f"met_acc_tm_macro_{size}")
    matrix = confusion_matrix(labels, predictions, num_classes)
    labelled = int((matrix.sum(1) > 0).sum())
    assert labelled < num_classes
    assert scores_of(matrix).mean_accuracy * labelled / num_classes == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("size", ["odd", "b1"])
def test_stored_scores_that_are_means_over_images(size):
    # Differs on purpose: segmentation.MeanIoU and DiceScore average the images' scores, ours sums matrices first.
    labels, predictions, num_classes, expected = oracle(f"met_meaniou_tm_perclass1_{size}")
    images = [scores_of(confusion_matrix(*one, num_classes)) for one in zip(labels, predictions, strict=True)]
    iou = np.mean([one.iou for one in images], axis=0)
    assert iou == pytest.approx(expected.tolist(), abs=1e-6)
    assert oracle(f"met_meaniou_tm_perclass0_{size}")[3].item() == pytest.approx(iou.mean(), abs=1e-6)
    dice = np.mean([one.dice for one in images], axis=0)
    assert dice == pytest.approx(oracle(f"met_dice_tm_none_{size}")[3].tolist(), abs=1e-6)
    assert oracle(f"met_dice_tm_macro_{size}")[3].item() == pytest.approx(dice.mean(), abs=1e-6)
    accuracy = np.mean([one.pixel_accuracy for one in images])  # micro Dice of one label a pixel
    assert oracle(f"met_dice_tm_micro_{size}")[3].item() == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.gpu
def test_counts_on_a_gpu():
    labels, predictions = torch.randint(0, 5, (4, 9, 7)), torch.randint(0, 5, (4, 9, 7))
    matrix = confusion_matrix(labels.cuda(), predictions.cuda(), 5)
    assert matrix.device.type == "cuda"
    assert torch.equal(matrix.cpu(), confusion_matrix(labels, predictions, 5))
