"""Confusion matrices, and the scores computed from them."""

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.constants import IGNORE
from kd.units import counted

if TYPE_CHECKING:
    from torch import Tensor

Counts = NDArray[np.int64]


class Scores(NamedTuple):
    """The scores of a confusion matrix; every one is a share from 0 to 1.

    A class that occurs neither in the labels nor in the predictions has no IoU and no Dice: both are None, and the
    means leave the class out. A class that is predicted but never labelled scores 0. A mean over nothing is NaN.
    """

    miou: float
    iou: tuple[float | None, ...]
    pixel_accuracy: float
    mean_accuracy: float  # mean recall over the labelled classes
    mean_dice: float
    dice: tuple[float | None, ...]
    absent: tuple[int, ...]  # the classes without IoU and Dice


class Confusion:
    """The confusion matrix of a split. kd scores every network by it, whether or not a recipe names it.

    Args:
        num_classes: K.

    Attributes:
        images: of each image int64 (K, 3): a class's intersection of labels and predictions, its predicted and its
            labelled pixels.
    """

    unit = "%"
    direction = "higher"

    def __init__(self, num_classes: int) -> None:
        self.images: list[Counts] = []
        self._confusion = np.zeros((num_classes, num_classes), np.int64)

    def update(self, labels: "Tensor", probabilities: "Tensor") -> None:
        """Add one image; the prediction is the argmax of `probabilities`."""
        self.count(labels, probabilities.max(0).indices)  # as `argmax`, which takes a CPU ten times as long

    def count(self, labels: "Tensor", predictions: "Tensor") -> None:
        """Add one image, given its predicted classes (H, W)."""
        matrix: Counts = confusion_matrix(labels, predictions, len(self._confusion)).cpu().numpy()  # waits
        self._confusion += matrix
        self.images.append(np.stack((matrix.diagonal(), matrix.sum(0), matrix.sum(1)), axis=1))

    def state(self) -> dict[str, NDArray[Any]]:
        """`confusion`: int64 (K, K), rows are labels and columns predictions."""
        return {"confusion": self._confusion}

    def value(self, state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """`miou`, `pixel_accuracy`, `mean_accuracy` and `mean_dice`: shares from 0 to 1."""
        result = scores(state["confusion"])._asdict()
        names = ("miou", "pixel_accuracy", "mean_accuracy", "mean_dice")
        return {name: None if math.isnan(result[name]) else result[name] for name in names}


def confusion_matrix(labels: "Tensor", predictions: "Tensor", num_classes: int) -> "Tensor":
    """Count how often each class is predicted as each class.

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
    scored: Tensor | None = None
    for name, values, most in (("labels", labels, IGNORE), ("predictions", predictions, num_classes - 1)):
        low, high = (int(value) for value in values.aminmax()) if values.numel() else (0, 0)
        if low < 0 or high > most:
            scored = labels != IGNORE
            _check_classes(name, values[scored], num_classes)
    if scored is not None:
        labels, predictions = labels[scored], predictions[scored]
    rows = labels.byte() + 1  # in a byte, IGNORE + 1 is 0: the ignored pixels are a row of their own
    if rows.numel() and rows.amax() > num_classes:
        _check_classes("labels", labels[labels != IGNORE], num_classes)
    # Counting wide integers, or choosing the scored pixels first, takes several times as long.
    cells = (num_classes + 1) * num_classes
    narrow = rows if cells <= 2**8 else rows.short() if cells <= 2**15 else rows.int()
    counts = (narrow * num_classes + predictions.to(narrow.dtype)).flatten().bincount(minlength=cells)
    return counts[num_classes:].view(num_classes, num_classes)


def _check_classes(name: str, values: "Tensor", num_classes: int) -> None:
    """Refuse scored pixels that are of no class: they would be counted for another one."""
    wrong = values[(values < 0) | (values >= num_classes)]
    if wrong.numel():
        raise ValueError(
            f"{name} hold {int(wrong[0])} ({counted(wrong.numel(), 'pixel')}), classes are 0 … {num_classes - 1}; "
            f"{IGNORE} marks a pixel that is not scored"
        )


def scores(matrix: Counts) -> Scores:
    """Compute the scores of a confusion matrix.

    Means are rounded once, from the exact sum: they do not depend on an order of addition.

    Args:
        matrix: int64 (K, K), rows labels, columns predictions: the sum over all images.
    """
    counts = np.asarray(matrix, np.float64)  # exact: counts are far below 2^53
    hits, labelled, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: the class occurs nowhere
        iou = hits / (labelled + predicted - hits)
        dice = 2 * hits / (labelled + predicted)
        recall = hits / labelled
        accuracy = hits.sum() / counts.sum()
    return Scores(
        miou=mean_of_known(iou),
        iou=_known(iou),
        pixel_accuracy=float(accuracy),
        mean_accuracy=mean_of_known(recall),
        mean_dice=mean_of_known(dice),
        dice=_known(dice),
        absent=tuple(np.flatnonzero(np.isnan(iou)).tolist()),
    )


def mean_of_known(values: NDArray[np.float64]) -> float:
    """The mean of the values that are not NaN; NaN where there are none."""
    known = values[~np.isnan(values)].tolist()
    return fmean(known) if known else math.nan


def _known(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else value for value in values.tolist())
