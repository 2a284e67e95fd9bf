"""Decoded images in memory: read once, by whichever worker comes first, then shared by all of them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

from kd.console import Say, silent
from kd.data.dataset import image_files
from kd.data.images.decode import read_header
from kd.errors import DataError
from kd.machine import training_processes
from kd.memory import free_shared
from kd.types import SegmentationDataset, size_of
from kd.units import data_size

SHARE = 0.5  # of the free memory that all processes of this machine may use together


class Kept:
    """The images and labels of a split as in their files, uint8, in memory that this process and its workers share.

    Nothing is written to a disk: nothing outlives the run, and no file can be out of date.

    Args:
        channels: of the images.
        sizes: (H, W) in pixels of every image.

    Raises:
        RuntimeError: the system does not give the memory; it is reserved here, and never missing later.
    """

    def __init__(self, channels: int, sizes: Sequence[tuple[int, int]]) -> None:
        self._sizes = list(sizes)
        pixels = torch.tensor([0, *(height * width for height, width in sizes)])
        self._starts: list[int] = ((channels + 1) * pixels).cumsum(0).tolist()
        self._values = _shared(self._starts[-1])
        self._held = _shared(len(sizes))  # 1 after a sample was written as a whole: a worker may die while it writes

    def get(self, index: int) -> tuple[Tensor, Tensor] | None:
        """The image (C, H, W) and the labels (H, W) of a sample, if they are held; not to be written to."""
        return self._place(index) if self._held[index] else None

    def put(self, index: int, image: Tensor, labels: Tensor) -> None:
        """Hold a sample; several workers may write the same one, which has the same values."""
        if size_of(labels) != self._sizes[index]:  # its file has changed since: it is read every time
            return
        held_image, held_labels = self._place(index)
        held_image.copy_(image)
        held_labels.copy_(labels)
        self._held[index] = 1

    def _place(self, index: int) -> tuple[Tensor, Tensor]:
        values = self._values[self._starts[index] : self._starts[index + 1]].view(-1, *self._sizes[index])
        return values[:-1], values[-1]


def kept_bytes(channels: int, sizes: Sequence[tuple[int, int]]) -> int:
    """The bytes that `Kept` takes."""
    return sum((channels + 1) * height * width + 1 for height, width in sizes)


def keep(dataset: SegmentationDataset, say: Say = silent) -> Kept | None:
    """Memory for a split of kd's datasets, whose samples do not depend on the view; None where it does not fit.

    Args:
        dataset: the split.
        say: takes the line for the user on what is held.
    """
    free, processes = free_shared(), training_processes()  # which start at once, and see the same memory
    parts = getattr(dataset, "parts", (dataset,))
    own = all(type(part).__module__.startswith("kd.data.") for part in parts)  # a user's may draw its samples anew
    if not own or free is None:
        return None
    sizes: list[tuple[int, int]] = []
    needed, each = 0, f" in each of {processes} processes" * (processes > 1)
    try:
        for size in chain.from_iterable(map(_sizes, parts)):
            sizes.append(size)
            needed += kept_bytes(dataset.in_channels, [size])
            if processes * needed > SHARE * free:  # the headers of a data set that does not fit may take minutes
                break
    except DataError:  # reported when the training reads it
        return None
    if processes * needed > SHARE * free:
        about = "about " * (len(sizes) < len(dataset))
        total = needed * len(dataset) / len(sizes)
        reason = f"{about}{data_size(total)}{each} are more than half of the {data_size(free)} that are free"
    elif len(sizes) < len(dataset):
        return None
    else:
        try:
            held = Kept(dataset.in_channels, sizes)
        except RuntimeError:  # another program was faster: the images are read as often as they are needed
            reason = f"the system does not give {data_size(needed)} of memory"
        else:
            say(f"  data.decoded: {data_size(needed)} of decoded images held in memory{each}")
            return held
    say(f"  data.decoded: not held: {reason}")
    return None


def _sizes(dataset: SegmentationDataset) -> Iterator[tuple[int, int]]:
    """The size (H, W) of each image: by the header of its file, or by `image_size`; none if the dataset has neither."""
    stated: Callable[[int], tuple[int, int]] | None = getattr(dataset, "image_size", None)
    if stated is not None:
        return map(stated, range(len(dataset)))
    return (read_header(path).size for path in image_files(dataset))


def _shared(*shape: int) -> Tensor:
    """Zeros, uint8, in shared memory."""
    storage = torch.UntypedStorage._new_shared(torch.Size(shape).numel())  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape).zero_()
