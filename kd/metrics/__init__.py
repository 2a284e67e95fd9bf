"""Metrics: scores of predictions, summed image by image. No module of this package imports torch.

A recipe names further metrics under `evaluate.metrics`; docs/add-a-metric.md shows how to write one.
"""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from kd.metrics.boundary_iou import BoundaryIoU
from kd.metrics.calibration_error import CalibrationError
from kd.metrics.confusion import Confusion, Scores, confusion_matrix, scores
from kd.metrics.foreground_iou import ForegroundIoU
from kd.metrics.image_dice import ImageDice
from kd.metrics.surface_distance import HausdorffDistance, SurfaceDistance
from kd.metrics.trimap_iou import TrimapIoU

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BoundaryIoU",
    "CalibrationError",
    "Confusion",
    "ForegroundIoU",
    "HausdorffDistance",
    "ImageDice",
    "Metric",
    "Scores",
    "SurfaceDistance",
    "TrimapIoU",
    "confusion_matrix",
    "scores",
]


@runtime_checkable
class Metric(Protocol):
    """A score of a split, made as `Metric(**args)`, with `num_classes` where the constructor names it.

    A metric is made for every evaluation, sees each image of the split once and gives its state. States of several
    processes are added, and `value` turns the sum into numbers. An `update` that has an argument `spacing` receives the
    height and width of a pixel of the image in mm there, or None if the dataset does not state it.

    Attributes:
        unit: "%" where the values are shares from 0 to 1, which tables show in percent; or any other text, such as
            "px", for values that tables show unchanged.
        direction: "higher" or "lower": which is better.
    """

    unit: str
    direction: str

    def update(self, labels: "Tensor", probabilities: "Tensor") -> None:
        """Add one image.

        Args:
            labels: int64 (H, W): 0 … K-1, and IGNORE (255) where a pixel is not scored.
            probabilities: float32 (K, H, W) at the labels' size, sum 1 over the classes; their argmax predicts.
        """

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays that add up: the state of two sets of images together is the sum of their states."""

    def value(self, state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """The values of a state by name, None where one is not defined; tables show the first. NumPy only."""
