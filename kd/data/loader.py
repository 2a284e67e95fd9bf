"""The endless stream of training positions as batches, and the batches of an evaluation."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from kd.data.dataset import Item, Split, hashed, read, resize_image, sample_name
from kd.errors import DataError
from kd.types import IGNORE, Batch, SegmentationDataset

Key = tuple[int, int]  # index, view


class Evaluation(NamedTuple):
    """Images to be scored."""

    images: Tensor  # uint8 (N, C, H, W), all of one size
    labels: tuple[Tensor, ...]  # uint8 (h_i, w_i), at the files' own sizes
    names: tuple[str, ...]


def order(seed: int, epoch: int, length: int) -> Tensor:
    """The order of an epoch: int64 (length,), a permutation of 0 … length-1."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(hashed(seed, epoch)))


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
    """This rank's micro-batches of the steps from `start` to `steps`, `accumulate` of them a step.

    All runs read one endless stream: position p is image `order(seed, p // len)[p % len]` in its view p // len, and a
    step takes the next `batch_size` positions; ranks, then micro-batches, take consecutive slices of them. So no batch
    is short, no image is dropped, the step alone says where to resume, and the number of workers changes nothing.
    Close the iterator to stop its workers.

    Args:
        split: where the images come from.
        steps: the step to stop before.
        start: the first step.
        batch_size: images a step, over all ranks and micro-batches.
        accumulate: micro-batches a step.
        seed: of the order.
        rank: of this process, 0 … world-1.
        world: processes.
        views: view = epoch mod `views`; None lets every epoch be a view of its own.
        workers: processes that read; 0 reads in this one.
        timeout: seconds to wait for a batch of the workers.
        context: how workers start: "fork", "spawn", "forkserver"; None takes Python's default.
        pin_memory: put batches into page-locked memory, from which copies to a GPU are asynchronous.
        waiting: called once a second while a batch of the workers is waited for; may raise to stop.

    Raises:
        ValueError: the batch does not divide among ranks and micro-batches; the split is empty.
        DataError: a sample cannot be read; a worker died or hangs. Names the samples being read.
    """
    if batch_size < 1 or batch_size % (world * accumulate):
        raise ValueError(
            f"batch_size {batch_size} does not divide among {world} processes × {accumulate} micro-batches; "
            f"take a multiple of {world * accumulate}"
        )
    if len(split) == 0:
        raise DataError("the training split is empty")
    keys = _keys(len(split), steps, start, batch_size, accumulate, seed, rank, world, views)
    return _batches(_Reader(split, workers), keys, workers, timeout, context, pin_memory, waiting)


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
    """Every `world`-th image of a split once, from `rank` on, resized to `size`; labels stay as the files hold them.

    The last batch may be short. An image without labels has IGNORE everywhere.

    Raises:
        DataError: a sample cannot be read; a worker died or hangs.
    """
    mine = range(rank, len(dataset), world)
    keys = ([(i, 0) for i in mine[at : at + batch_size]] for at in range(0, len(mine), batch_size))
    return _batches(_Reader(_Whole(dataset, size), workers), keys, workers, timeout, context, False, waiting)


def _keys(
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
    micro = batch_size // (world * accumulate)
    epoch, permutation = -1, torch.empty(0, dtype=torch.int64)
    for step in range(start, steps):
        first = step * batch_size + rank * (batch_size // world)
        for begin in range(first, first + accumulate * micro, micro):
            keys = []
            for position in range(begin, begin + micro):
                if position // length != epoch:
                    epoch = position // length
                    permutation = order(seed, epoch, length)
                keys.append((int(permutation[position % length]), epoch if views is None else epoch % views))
            yield keys


class _Whole:
    """A split as `_Reader` reads it for an evaluation."""

    def __init__(self, dataset: SegmentationDataset, size: tuple[int, int]) -> None:
        self.dataset, self.size = dataset, size

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor, str]:
        image, labels, name = read(self.dataset, *key)
        labels = torch.full(image.shape[1:], IGNORE, dtype=torch.uint8) if labels is None else labels
        return resize_image(image, self.size), labels, name


class _Failure(NamedTuple):
    """A DataError on its way out of a worker, where DataLoader would wrap it in a traceback, or out of `_next`."""

    text: str


class _Reader(Dataset[Any]):
    """Reads a batch at a time and leaves a note, in shared memory, of what each worker is reading."""

    def __init__(self, source: Split | _Whole, workers: int) -> None:
        self.source = source
        self.notes = torch.full((max(workers, 1), 2), -1)  # worker -> its process, and the index it reads or -1
        if workers:
            self.notes.share_memory_()  # type: ignore[no-untyped-call]

    def __getitems__(self, keys: list[Key]) -> Batch | Evaluation | _Failure:
        worker = get_worker_info()
        note = self.notes[worker.id if worker else 0]
        note[0] = os.getpid()
        items = []
        try:
            for key in keys:
                note[1] = key[0]
                items.append(self.source[key])
        except DataError as error:
            return _Failure(str(error))
        finally:
            note[1] = -1
        if isinstance(items[0], Item):
            return Batch(*default_collate(items))
        images, labels, names = zip(*items, strict=True)
        return Evaluation(torch.stack(images), labels, names)

    def being_read(self, processes: set[int]) -> str:
        """The samples that these processes (all, if none is given) are reading now."""
        busy = [index for process, index in self.notes.tolist() if index >= 0 and process in (processes or {process})]
        return ", ".join(sample_name(self.source.dataset, index) for index in busy) or "nothing yet"


def _batches(
    reader: _Reader,
    keys: Iterator[list[Key]],
    workers: int,
    timeout: float,
    context: str | None,
    pin_memory: bool,
    waiting: Callable[[], None],
) -> Iterator[Any]:
    if workers == 0:
        for batch_keys in keys:
            batch = _sound(reader.__getitems__(batch_keys))
            yield Batch(*(part.pin_memory() for part in batch)) if pin_memory else batch
        return
    before = signal.getsignal(signal.SIGCHLD)
    loader = DataLoader(
        reader,
        batch_sampler=keys,
        collate_fn=_as_it_is,
        num_workers=workers,
        timeout=min(timeout, 1.0),
        multiprocessing_context=context,
        generator=torch.Generator(),  # or every iterator would draw from the generator of the training
        pin_memory=pin_memory,
    )
    batches = iter(loader)
    if threading.current_thread() is threading.main_thread() and before is not None:
        # torch would raise a worker's death wherever the main thread happens to be; here it is found while waiting.
        signal.signal(signal.SIGCHLD, before)
    try:
        while (batch := _next(batches, reader, timeout, waiting)) is not None:
            yield _sound(batch)
    finally:
        del batches  # stops the workers, now


def _next(batches: Iterator[Any], reader: _Reader, timeout: float, waiting: Callable[[], None]) -> Any:
    """The next batch, None behind the last one; looks once a second whether all workers live.

    Failures are returned, not raised: the traceback's frames would hold the iterator, and with it the workers.
    """
    deadline = time.monotonic() + timeout
    while True:
        waiting()
        try:
            return next(batches, None)
        except (RuntimeError, OSError, EOFError) as error:
            reason = " ".join(str(error).split())
        if "timed out" not in reason:
            died = {int(number) for number in re.findall(r"\d+", reason.partition("pid")[2])}
            return _Failure(
                f"a data worker died while reading {reader.being_read(died)}: {reason}; "
                "where memory is short, take fewer workers"
            )
        if time.monotonic() >= deadline:
            return _Failure(
                f"no batch within {timeout:g} s: the data workers hang while reading {reader.being_read(set())}"
            )


def _sound(batch: Any) -> Any:
    if isinstance(batch, _Failure):
        raise DataError(batch.text)
    return batch


def _as_it_is(batch: Any) -> Any:
    return batch
