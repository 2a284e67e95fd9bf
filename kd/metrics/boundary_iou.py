"""Boundary IoU."""

from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.constants import IGNORE

if TYPE_CHECKING:
    from torch import Tensor


class BoundaryIoU:
    """IoU of the pixels near a class's boundary: it shows contour errors that the IoU of large objects hides.

        IoU_c = |(G_c ∩ band(G_c)) ∩ (P_c ∩ band(P_c))| / |(G_c ∩ band(G_c)) ∪ (P_c ∩ band(P_c))|

    G_c and P_c are the pixels of class c in labels and prediction; band(·) holds the pixels at most d rows and d
    columns away from a pixel outside the set, d = max(1, round(ratio · √(H² + W²))). Pixels outside the image are
    outside every set. Intersections and unions are summed over the images, then divided.

    Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021,
        arXiv:2103.16562.
    Differs: a pixel that is not scored belongs to no class, in the labels and in the prediction alike.

    Args:
        num_classes: K.
        ratio: d by the image's diagonal, > 0 and < 1.

    Raises:
        ValueError: `ratio` is not above 0 and below 1.
    """

    unit = "%"
    direction = "higher"

    def __init__(self, num_classes: int, ratio: float = 0.02) -> None:
        if not 0 < ratio < 1:
            raise ValueError(f"ratio must be above 0 and below 1, got {ratio}")
        self.ratio = ratio
        self._state = {name: np.zeros(num_classes, np.int64) for name in ("intersection", "union")}

    def update(self, labels: "Tensor", probabilities: "Tensor") -> None:
        """Add one image."""
        classes = len(probabilities)
        labelled = labels.byte()
        predicted = probabilities.max(0).indices.byte().masked_fill(labelled == IGNORE, IGNORE)
        reach = max(1, round(self.ratio * float(np.hypot(*labels.shape))))
        ours, theirs = (_inner_contour(maps, reach) for maps in (predicted, labelled))
        both = ours[(ours == theirs) & (ours != IGNORE)]
        intersection, of_ours, of_theirs = (_count(maps, classes) for maps in (both, ours, theirs))
        self._state["intersection"] += intersection
        self._state["union"] += of_ours + of_theirs - intersection

    def state(self) -> dict[str, NDArray[Any]]:
        """`intersection` and `union`: int64 (K,), pixels."""
        return self._state

    def value(self, state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """`mean` over the classes that occur, then each class by its index; shares from 0 to 1."""
        pairs = zip(state["intersection"].tolist(), state["union"].tolist(), strict=True)
        iou = [intersection / union if union else None for intersection, union in pairs]
        known = [value for value in iou if value is not None]
        return {"mean": fmean(known) if known else None} | {f"class {index}": value for index, value in enumerate(iou)}


def _inner_contour(classes: "Tensor", reach: int) -> "Tensor":
    """The map with IGNORE wherever all pixels within `reach` have one class: what remains are the bands of all classes.

    Largest and smallest class of a window are computed for all windows at once, each step doubling the window.
    """
    height, width = classes.shape
    padded = classes.new_full((height + 2 * reach, width + 2 * reach), IGNORE)
    padded[reach : reach + height, reach : reach + width] = classes
    largest, smallest = padded, padded
    for axis in (0, 1):
        covered = 1
        while covered < 2 * reach + 1:
            step = min(covered, 2 * reach + 1 - covered)
            length = largest.shape[axis] - step
            largest = largest.narrow(axis, 0, length).maximum(largest.narrow(axis, step, length))
            smallest = smallest.narrow(axis, 0, length).minimum(smallest.narrow(axis, step, length))
            covered += step
    return classes.masked_fill(largest == smallest, IGNORE)


def _count(classes: "Tensor", num_classes: int) -> NDArray[np.int64]:
    """Pixels of each class, int64 (K,)."""
    counts: NDArray[np.int64] = classes.flatten().long().bincount(minlength=IGNORE + 1)[:num_classes].cpu().numpy()
    return counts
