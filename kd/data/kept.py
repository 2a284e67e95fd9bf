"""Decoded images in memory: read and resized once, by whichever worker comes first, then shared by all of them."""

import torch
from torch import Tensor

from kd.memory import free_shared
from kd.types import SegmentationDataset

SHARE = 0.5  # of the free memory that may be used


class Kept:
    """The images and labels of a split at one size, uint8, in memory that this process and its workers share.

    Nothing is written to a disk: nothing outlives the run, and no file can be out of date.

    Args:
        count: number of samples.
        channels: of the images.
        size: (H, W) in pixels.

    Raises:
        RuntimeError: the system does not give the memory; it is reserved here, and never missing later.
    """

    def __init__(self, count: int, channels: int, size: tuple[int, int]) -> None:
        self._images = _shared(count, channels, *size)
        self._labels = _shared(count, *size)
        self._held = _shared(count)  # 1 after a sample was written as a whole: a worker may die while it writes

    def get(self, index: int) -> tuple[Tensor, Tensor] | None:
        """Copies of the image (C, H, W) and the labels (H, W) of a sample, if they are held."""
        if not self._held[index]:
            return None
        return self._images[index].clone(), self._labels[index].clone()

    def put(self, index: int, image: Tensor, labels: Tensor) -> None:
        """Hold a sample; several workers may write the same one, which has the same values."""
        self._images[index] = image
        self._labels[index] = labels
        self._held[index] = 1


def kept_bytes(dataset: SegmentationDataset, size: tuple[int, int]) -> int:
    """The bytes that `Kept` takes for a split."""
    return len(dataset) * ((dataset.in_channels + 1) * size[0] * size[1] + 1)


def keep(dataset: SegmentationDataset, size: tuple[int, int]) -> Kept | None:
    """Memory for a split of kd's datasets, whose samples do not depend on the view; None where it does not fit.

    Args:
        dataset: the split.
        size: (H, W) in pixels of the resized images.
    """
    free = free_shared()
    parts = getattr(dataset, "parts", (dataset,))
    own = all(type(part).__module__.startswith("kd.data.") for part in parts)  # a user's may draw its samples anew
    if not own or free is None or kept_bytes(dataset, size) > SHARE * free:
        return None
    try:
        return Kept(len(dataset), dataset.in_channels, size)
    except RuntimeError:  # another program was faster: the images are read as often as they are needed
        return None


def _shared(*shape: int) -> Tensor:
    """Zeros, uint8, in shared memory."""
    storage = torch.UntypedStorage._new_shared(torch.Size(shape).numel())  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape).zero_()
