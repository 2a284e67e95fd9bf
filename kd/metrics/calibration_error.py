"""Expected calibration error."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.constants import IGNORE

if TYPE_CHECKING:
    from torch import Tensor


class CalibrationError:
    """How far the network's confidence is from its accuracy: 0 if, of pixels predicted at 80 %, 80 % are right.

        ECE = Σ_b n_b / n · | accuracy_b − confidence_b |

    Confidence is the largest probability of a pixel; bin b of B holds the n_b pixels with confidence in
    (b/B, (b + 1)/B]. The pixels of all images are pooled.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599, eq. 3.

    Args:
        bins: B, >= 1.

    Raises:
        ValueError: `bins` is below 1.
    """

    unit = "%"
    direction = "lower"

    def __init__(self, bins: int = 15) -> None:
        if bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins}")
        self.bins = bins
        self._state = {name: np.zeros(bins) for name in ("confidence", "pixels", "right")}

    def update(self, labels: "Tensor", probabilities: "Tensor") -> None:
        """Add one image."""
        confidence, predictions = probabilities.max(0)
        valid = labels != IGNORE
        confidence, right = confidence[valid].cpu().double(), (predictions == labels)[valid].cpu()
        of_bin = (confidence * self.bins).ceil().long().clamp(1, self.bins) - 1
        for name, weights in (("confidence", confidence), ("pixels", None), ("right", right.double())):
            self._state[name] += of_bin.bincount(weights, minlength=self.bins).numpy()

    def state(self) -> dict[str, NDArray[Any]]:
        """`confidence` (sum), `pixels` and `right`: float64 (bins,)."""
        return self._state

    def value(self, state: dict[str, NDArray[Any]]) -> dict[str, float | None]:
        """`ece`, then the reliability curve: of bin b `share b` of the pixels, `confidence b` and `accuracy b`."""
        pixels = state["pixels"]
        total = float(pixels.sum())
        if not total:
            return {"ece": None}
        error = float(np.abs(state["right"] - state["confidence"]).sum() / total)
        values: dict[str, float | None] = {"ece": error}
        for b, count in enumerate(pixels.tolist()):
            values[f"share {b}"] = count / total
            values[f"confidence {b}"] = float(state["confidence"][b]) / count if count else None
            values[f"accuracy {b}"] = float(state["right"][b]) / count if count else None
        return values
