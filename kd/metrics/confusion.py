"""Confusion matrices, and the scores that follow from one."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kd.types import IGNORE


class Scores(NamedTuple):
    """What a confusion matrix says; every figure is a share from 0 to 1.

    A class that occurs neither in the labels nor in the predictions has no IoU and no Dice: None, and left out of the
    means. A class that is predicted but never labelled scores 0. Means over nothing are NaN.
    """

    miou: float
    iou: tuple[float | None, ...]
    pixel_accuracy: float
    mean_accuracy: float  # mean recall, over the classes that are labelled
    mean_dice: float
    dice: tuple[float | None, ...]
    absent: tuple[int, ...]  # the classes without a figure


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """How often each class is taken for each other one.

    Args:
        labels: integers of any shape: 0 … K-1, and IGNORE where a pixel is not scored.
        predictions: integers of the same shape: 0 … K-1 (anything where the label is IGNORE).
        num_classes: K.

    Returns:
        int64 (K, K) on the labels' device: rows are labels, columns predictions. Sums over images are exact.

    Raises:
        ValueError: the shapes differ; a scored label or prediction is not a class.
    """
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels {tuple(labels.shape)} and predictions {tuple(predictions.shape)} differ in shape; "
            "bring the logits to the labels' size before argmax"
        )
    scored = labels != IGNORE
    rows, columns = labels[scored].long(), predictions[scored].long()
    for name, values in (("labels", rows), ("predictions", columns)):
        wrong = values[(values < 0) | (values >= num_classes)]
        if wrong.numel():  # or a count would land in another class, silently
            raise ValueError(
                f"{name} hold {int(wrong[0])} ({wrong.numel()} pixels), classes are 0 … {num_classes - 1}; "
                f"{IGNORE} marks a pixel that is not scored"
            )
    counts = torch.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.view(num_classes, num_classes)


def scores(matrix: Tensor) -> Scores:
    """The scores of a confusion matrix.

    Args:
        matrix: int64 (K, K), rows labels, columns predictions: the sum over all images.
    """
    matrix = matrix.to("cpu", torch.float64)  # exact: counts are far below 2^53
    hits, labelled, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    iou = hits / (labelled + predicted - hits)  # 0 / 0 is NaN: the class occurs nowhere
    dice = 2 * hits / (labelled + predicted)
    return Scores(
        miou=iou.nanmean().item(),
        iou=_figures(iou),
        pixel_accuracy=(hits.sum() / matrix.sum()).item(),
        mean_accuracy=(hits / labelled).nanmean().item(),
        mean_dice=dice.nanmean().item(),
        dice=_figures(dice),
        absent=tuple(iou.isnan().nonzero().flatten().tolist()),
    )


def _figures(values: Tensor) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else value for value in values.tolist())
