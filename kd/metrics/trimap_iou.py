"""Trimap IoU."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.constants import IGNORE
from kd.metrics.confusion import Confusion, scores

if TYPE_CHECKING:
    from torch import Tensor


class TrimapIoU:
    """Mean IoU of the pixels near a boundary between labels: how well contours are drawn, whatever is inside.

    A pixel is scored if its label is not ignored and a pixel with another label, ignored ones included, is at most
    `width` rows and columns away.

    Source: Kohli et al., "Robust Higher Order Potentials for Enforcing Label Consistency", IJCV 82, 2009; as used by
        Chen et al., DeepLab, TPAMI 2018, arXiv:1606.00915.

    Args:
        num_classes: K.
        width: of the band on each side of a boundary, in pixels, >= 1.

    Raises:
        ValueError: `width` is below 1.
    """

    unit = "%"
    direction = "higher"

    def __init__(self, num_classes: int, width: int = 5) -> None:
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.width = width
        self._near = Confusion(num_classes)

    def update(self, labels: "Tensor", probabilities: "Tensor") -> None:
        """Add one image."""
        uniform = _uniform(labels.byte().cpu().numpy(), self.width)
        near = labels.masked_fill(labels.new_tensor(uniform).bool(), IGNORE)
        self._near.count(near, probabilities.max(0).indices)

    def state(self) -> dict[str, NDArray[Any]]:
        """`confusion`: int64 (K, K) of the pixels in the band."""
        return self._near.state()

    def value(self, state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """`miou` of the band, then each class by its index; shares from 0 to 1."""
        result = scores(state["confusion"])
        mean = None if np.isnan(result.miou) else result.miou
        return {"miou": mean} | {f"class {index}": value for index, value in enumerate(result.iou)}


def _uniform(labels: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    """1 where all pixels within `reach` rows and columns have one label; windows are cut at the edge of the image."""
    from scipy.ndimage import maximum_filter, minimum_filter

    window = 2 * reach + 1
    largest = maximum_filter(labels, window, mode="nearest")
    smallest = minimum_filter(labels, window, mode="nearest")
    uniform: NDArray[np.uint8] = (largest == smallest).astype(np.uint8)
    return uniform
