"""Batches: the endless stream of training positions, and the images of an evaluation in order."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

from kd.data.dataset import read, resize_image
from kd.data.split import Item, Split, derived_seed
from kd.data.workers import Key, Reader, read_batches
from kd.errors import DataError
from kd.types import IGNORE, Batch, SegmentationDataset


class Evaluation(NamedTuple):
    """A batch of images to score."""

    images: Tensor  # uint8 (N, C, H, W), all of one size
    labels: tuple[Tensor, ...]  # uint8 (h_i, w_i), at the files' own sizes
    names: tuple[str, ...]


def order(seed: int, epoch: int, length: int) -> Tensor:
    """The order of an epoch: int64 (length,), a permutation of 0 … length-1."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(derived_seed(seed, epoch)))


def training_batches(
    split: Split,
    *,
    steps: int,
    start: int = 0,
    batch_size: int,
    accumulate: int = 1,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    views: int | None = None,
    workers: int = 0,
    timeout: float = 300,
    context: str | None = None,
    pin_memory: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[Batch]:
    """This rank's micro-batches of the steps from `start` to `steps`, `accumulate` per step.

    All runs read one endless stream: position p is image `order(seed, p // len)[p % len]` in view p // len, and a step
    takes the next `batch_size` positions; ranks, then micro-batches, take consecutive slices of them. Hence no batch
    is short, no image is dropped, the step alone determines where to resume, and the number of workers changes nothing.
    Close the iterator to stop its workers.

    Args:
        split: the source of the images.
        steps: the step to stop before.
        start: the first step.
        batch_size: images per step, over all ranks and micro-batches.
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
        ValueError: the batch size is not divisible by the numbers of ranks and micro-batches.
        DataError: the split is empty; a sample cannot be read; a worker died or hangs. Names the samples being read.
    """
    if batch_size < 1 or batch_size % (world * accumulate):
        raise ValueError(
            f"batch_size {batch_size} is not divisible by {world} processes × {accumulate} micro-batches; "
            f"use a multiple of {world * accumulate}"
        )
    if len(split) == 0:
        raise DataError("the training split is empty")
    keys = _training_keys(len(split), steps, start, batch_size, accumulate, seed, rank, world, views)
    return read_batches(Reader(split, _training_batch, workers), keys, workers, timeout, context, pin_memory, waiting)


def evaluation_batches(
    dataset: SegmentationDataset,
    size: tuple[int, int],
    *,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    timeout: float = 300,
    context: str | None = None,
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
        workers: as for `training_batches`; so are `timeout`, `context` and `waiting`.
        timeout: in seconds.
        context: of the workers.
        waiting: while waiting for the workers.

    Raises:
        DataError: a sample cannot be read; a worker died or hangs.
    """
    indices = range(rank, len(dataset), world)
    keys = ([(i, 0) for i in indices[first : first + batch_size]] for first in range(0, len(indices), batch_size))
    reader = Reader(_Resized(dataset, size), _evaluation_batch, workers)
    return read_batches(reader, keys, workers, timeout, context, False, waiting)


def _training_keys(
    length: int,
    steps: int,
    start: int,
    batch_size: int,
    accumulate: int,
    seed: int,
    rank: int,
    world: int,
    views: int | None,
) -> Iterator[list[Key]]:
    """The keys of each micro-batch."""
    micro_batch = batch_size // (world * accumulate)
    epoch, permutation = -1, torch.empty(0, dtype=torch.int64)
    for step in range(start, steps):
        first = step * batch_size + rank * (batch_size // world)
        for begin in range(first, first + accumulate * micro_batch, micro_batch):
            keys = []
            for position in range(begin, begin + micro_batch):
                if position // length != epoch:
                    epoch = position // length
                    permutation = order(seed, epoch, length)
                keys.append((int(permutation[position % length]), epoch if views is None else epoch % views))
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
    return Batch(*default_collate(items))


def _evaluation_batch(items: list[tuple[Tensor, Tensor, str]]) -> Evaluation:
    images, labels, names = zip(*items, strict=True)
    return Evaluation(torch.stack(images), labels, names)
