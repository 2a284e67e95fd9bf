"""Batches: the endless stream of training positions, and the images of an evaluation in order."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

from kd.data.dataset import read, resize_image
from kd.data.splits.split import Item, Split, derived_seed
from kd.data.workers import Key, Reader, read_batches
from kd.errors import DataError
from kd.types import IGNORE, Batch, SegmentationDataset

TIMEOUT = 300.0  # seconds to wait for a batch from the workers
WITHOUT_LABELS = 1  # the purpose of an order


class Evaluation(NamedTuple):
    """A batch of images to score."""

    images: Tensor  # uint8 (N, C, H, W), all of one size
    labels: tuple[Tensor, ...]  # uint8 (h_i, w_i), at the files' own sizes
    names: tuple[str, ...]


def order(seed: int, epoch: int, length: int, *purpose: int) -> Tensor:
    """The order of an epoch: int64 (length,), a permutation of 0 … length-1.

    Args:
        seed: of the run.
        epoch: counted from 0.
        length: number of samples.
        purpose: `WITHOUT_LABELS` for images without labels; none for the others.
    """
    return torch.randperm(length, generator=torch.Generator().manual_seed(derived_seed(seed, epoch, *purpose)))


def training_batches(
    split: Split,
    *,
    steps: int,
    start: int = 0,
    batch_size: int,
    labelled: int | None = None,
    unlabelled_size: int = 0,
    accumulate: int = 1,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    views: int | None = None,
    workers: int = 0,
    timeout: float = TIMEOUT,
    context: str | None = None,
    pin_memory: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[Batch]:
    """This rank's micro-batches of the steps from `start` to `steps`, `accumulate` per step.

    All runs read one endless stream: position p is image `order(seed, p // len)[p % len]` in view p // len, and a step
    takes the next `batch_size` positions; ranks, then micro-batches, take consecutive slices of them. Hence no batch
    is short, no image is dropped, the step alone determines where to resume, and the number of workers changes nothing.
    Images without labels are a second such stream; in each micro-batch, its images follow those of the first one.
    Close the iterator to stop its workers.

    Args:
        split: the source of the images.
        steps: the step to stop before.
        start: the first step.
        batch_size: images per step, over all ranks and micro-batches.
        labelled: the first images of the split, which `batch_size` counts; the others have no labels. None: all.
        unlabelled_size: images of the others per step, over all ranks and micro-batches.
        accumulate: micro-batches per step.
        seed: of the order.
        rank: of this process, 0 … world-1.
        world: processes.
        views: view = epoch mod `views`; None: each epoch is a new view.
        workers: processes that read; 0 reads in this one.
        timeout: seconds to wait for a batch from the workers.
        context: how workers start: "fork", "spawn", "forkserver"; None for Python's default.
        pin_memory: put batches into page-locked memory, from which copies to a GPU are asynchronous.
        waiting: called once a second while waiting for the workers; may raise to stop.

    Raises:
        ValueError: a batch size is not divisible by the numbers of ranks and micro-batches.
        DataError: the split is empty; a sample cannot be read; a worker died or hangs. Names the samples being read.
    """
    for name, size in (("batch_size", batch_size), ("unlabelled_size", unlabelled_size)):
        if size % (world * accumulate) or batch_size < 1:
            raise ValueError(
                f"{name} {size} is not divisible by {world} processes × {accumulate} micro-batches; "
                f"use a multiple of {world * accumulate}"
            )
    if len(split) == 0:
        raise DataError("the training split is empty")
    counted = len(split) if labelled is None else labelled
    streams = [_Positions(range(counted), batch_size, seed, views)]
    if unlabelled_size:
        streams.append(_Positions(range(counted, len(split)), unlabelled_size, seed, views, WITHOUT_LABELS))
    keys = _training_keys(streams, range(start, steps), accumulate, rank, world)
    return read_batches(Reader(split, _training_batch, workers), keys, workers, timeout, context, pin_memory, waiting)


def evaluation_batches(
    dataset: SegmentationDataset,
    size: tuple[int, int],
    *,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[Evaluation]:
    """Every `world`-th image of a split once, from `rank` on, resized to `size`; labels keep the files' own sizes.

    The last batch may be short. An image without labels has IGNORE everywhere.

    Args:
        dataset: one split.
        size: (H, W) in pixels.
        batch_size: images per batch.
        rank: of this process, 0 … world-1.
        world: processes.
        workers: as for `training_batches`.
        waiting: while waiting for the workers.

    Raises:
        DataError: a sample cannot be read; a worker died or hangs.
    """
    indices = range(rank, len(dataset), world)
    keys = ([(i, 0) for i in indices[first : first + batch_size]] for first in range(0, len(indices), batch_size))
    reader = Reader(_Resized(dataset, size), _evaluation_batch, workers)
    return read_batches(reader, keys, workers, TIMEOUT, None, False, waiting)


class _Positions:
    """An endless stream of samples.

    Args:
        indices: of the samples in the split.
        size: samples per step.
        seed: of the order.
        views: as for `training_batches`.
        purpose: as for `order`.
    """

    def __init__(self, indices: range, size: int, seed: int, views: int | None, *purpose: int) -> None:
        self.indices, self.size, self.seed, self.views, self.purpose = indices, size, seed, views, purpose
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def keys(self, begin: int, count: int) -> Iterator[Key]:
        """The keys of `count` positions from `begin` on."""
        length = len(self.indices)
        for position in range(begin, begin + count):
            epoch, place = divmod(position, length)
            if epoch != self._epoch:
                self._epoch, self._order = epoch, order(self.seed, epoch, length, *self.purpose)
            yield self.indices[int(self._order[place])], epoch if self.views is None else epoch % self.views


def _training_keys(
    streams: list[_Positions], steps: range, accumulate: int, rank: int, world: int
) -> Iterator[list[Key]]:
    """The keys of each micro-batch."""
    for step in steps:
        for micro in range(accumulate):
            keys: list[Key] = []
            for stream in streams:
                share = stream.size // (world * accumulate)
                keys += stream.keys(step * stream.size + (rank * accumulate + micro) * share, share)
            yield keys


class _Resized:
    """The samples of a split as an evaluation reads them: images at one size, labels at the files' own."""

    def __init__(self, dataset: SegmentationDataset, size: tuple[int, int]) -> None:
        self.dataset, self.size = dataset, size

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor, str]:
        image, labels, name = read(self.dataset, *key)
        labels = torch.full(image.shape[1:], IGNORE, dtype=torch.uint8) if labels is None else labels
        return resize_image(image, self.size), labels, name


def _training_batch(items: list[Item]) -> Batch:
    fields = zip(*items, strict=True)
    return Batch._make(None if values[0] is None else default_collate(list(values)) for values in fields)


def _evaluation_batch(items: list[tuple[Tensor, Tensor, str]]) -> Evaluation:
    images, labels, names = zip(*items, strict=True)
    return Evaluation(torch.stack(images), labels, names)
