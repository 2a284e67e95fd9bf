"""The window of training pixels that is cut out of an image."""

from typing import NamedTuple

import torch
from torch import Tensor

from kd.data.transforms.sampling import Frame, Size, sample_labels

# Labels of pixels without a label while transforms run, so that IGNORE can only be padding.
UNLABELLED = 254

REDRAWN = 10  # times, at most, while one class fills a window


class Crop(NamedTuple):
    """A random window of a frame; where it exceeds the frame, what the image does not fill is padding."""

    size: Size
    largest_share: float | None = None  # of one class among the labelled pixels of the window; drawn again above it
    padding: str = "end"  # of smaller images: "end", at the bottom and right, or "random", on all sides

    def draw(self, frame: Frame, labels: Tensor) -> Frame:
        """Draw a window.

        Args:
            frame: of the image.
            labels: of the file, uint8 (H, W), with `UNLABELLED`.
        """
        window = self._window(frame)
        if self.largest_share is None or self.size == frame.size:
            return window
        for _ in range(REDRAWN):
            if _share(sample_labels(labels, window)) <= self.largest_share:
                break
            window = self._window(frame)
        return window

    def _window(self, frame: Frame) -> Frame:
        top, left = (self._start(given, length) for given, length in zip(frame.size, self.size, strict=True))
        return frame.window(top, left, self.size)

    def _start(self, given: int, length: int) -> int:
        if given > length:
            return int(torch.randint(given - length + 1, ()))
        return -int(torch.randint(length - given + 1, ())) if self.padding == "random" else 0


def _share(labels: Tensor) -> float:
    """The share of the most frequent class among the labelled pixels; 0 without any."""
    counts = torch.bincount(labels.flatten(), minlength=UNLABELLED)[:UNLABELLED]
    return int(counts.max()) / max(1, int(counts.sum()))
