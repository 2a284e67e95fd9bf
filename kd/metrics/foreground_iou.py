"""Mean IoU of all classes but the background."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.metrics.confusion import Confusion, mean_of_known, scores

if TYPE_CHECKING:
    from torch import Tensor


class ForegroundIoU:
    """The mean IoU of the foreground: of all classes but the background, which is often most of an image.

        IoU_c = |G_c ∩ P_c| / |G_c ∪ P_c|;   the result is its mean over the classes c that are not the background

    G and P are the labelled and predicted pixels of a class in all images. Background that is predicted as a class, and
    the reverse, count in the unions. A class that is neither labelled nor predicted is left out.

    Source: the IoU of Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 88(2), 2010.
    Differs: without the background, which is one of VOC's 21 classes.

    Args:
        num_classes: K.
        background: the index of the background, 0 … K − 1.

    Raises:
        ValueError: `background` is no class.
    """

    unit = "%"
    direction = "higher"

    def __init__(self, num_classes: int, background: int = 0) -> None:
        if not 0 <= background < num_classes:
            raise ValueError(f"background must be 0 … {num_classes - 1}, got {background}")
        self.background = background
        self._confusion = Confusion(num_classes)

    def update(self, labels: "Tensor", probabilities: "Tensor") -> None:
        """Add one image."""
        self._confusion.update(labels, probabilities)

    def state(self) -> dict[str, NDArray[Any]]:
        """`confusion`: int64 (K, K), rows are labels and columns predictions."""
        return self._confusion.state()

    def value(self, state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """`foreground_miou`, a share from 0 to 1; None if no class of the foreground is labelled or predicted."""
        iou = np.array([np.nan if one is None else one for one in scores(state["confusion"]).iou])
        mean = mean_of_known(np.delete(iou, self.background))
        return {"foreground_miou": None if np.isnan(mean) else mean}
