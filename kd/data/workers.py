"""Batches read by worker processes: a sample that cannot be read, a dead or a hanging worker is one line."""

import errno
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from kd.data.dataset import sample_name
from kd.errors import DataError, RecipeError, StorageError
from kd.types import Batch, SegmentationDataset

Key = tuple[int, int]  # index, view


class Source(Protocol):
    """Items by key, read from the samples of a dataset."""

    dataset: SegmentationDataset

    def __getitem__(self, key: Key) -> Any: ...


class _Failure(NamedTuple):
    """An error as a value: DataLoader would wrap an exception in a traceback."""

    kind: type[DataError] | type[RecipeError] | type[StorageError]
    text: str


class Reader(Dataset[Any]):
    """Reads one batch at a time; shared memory holds what each worker is reading.

    Args:
        source: of the items.
        collate: makes a batch of a list of items.
        workers: number of worker processes.
    """

    def __init__(self, source: Source, collate: Callable[[list[Any]], Any], workers: int) -> None:
        self.source, self.collate = source, collate
        self.reading = torch.full((max(workers, 1), 2), -1)  # worker -> its process, and the index it reads or -1
        if workers:
            with _needs_shared_memory():
                _share(self.reading)

    def __getitems__(self, keys: list[Key]) -> Any:
        worker = get_worker_info()
        reading = self.reading[worker.id if worker else 0]
        reading[0] = os.getpid()
        items = []
        try:
            for key in keys:
                reading[1] = key[0]
                items.append(self.source[key])
            reading[1] = -1
            with _needs_shared_memory():
                batch = self.collate(items)
                if worker:
                    _share(batch)
            return batch
        except (DataError, RecipeError, StorageError) as error:
            return _Failure(type(error), str(error))
        finally:
            reading[1] = -1

    def samples_in_work(self, processes: set[int]) -> str:
        """The samples that these processes (all, if the set is empty) are reading now."""
        indices = [
            index for process, index in self.reading.tolist() if index >= 0 and process in (processes or {process})
        ]
        return ", ".join(sample_name(self.source.dataset, index) for index in indices) or "nothing yet"


def read_batches(
    reader: Reader,
    keys: Iterator[list[Key]],
    workers: int,
    timeout: float,
    context: str | None,
    pin_memory: bool,
    waiting: Callable[[], None],
    ahead: int | None = None,
) -> Generator[Any]:
    """A batch for each list of keys; close the generator to stop its workers, which start at once.

    Args:
        reader: of the batches.
        keys: of each batch.
        workers: processes that read; 0 reads in this one.
        timeout: seconds to wait for a batch from the workers.
        context: how workers start: "fork", "spawn", "forkserver"; None for Python's default.
        pin_memory: put batches into page-locked memory.
        waiting: called once a second while waiting for the workers; may raise to stop.
        ahead: batches that each worker reads before they are asked for; None: torch's default, 2.

    Raises:
        DataError: a sample cannot be read; a worker died or hangs. Names the samples being read.
        RecipeError: a transform of the user's fails.
        StorageError: the memory that processes share is full.
    """
    if workers == 0:
        return _read_here(reader, keys, pin_memory)
    handler = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None  # Windows has no such signal
    loader = DataLoader(
        reader,
        batch_sampler=keys,
        collate_fn=_unchanged,
        num_workers=workers,
        prefetch_factor=ahead,
        timeout=min(timeout, 1.0),
        multiprocessing_context=context,
        generator=torch.Generator(),  # or every iterator would draw from the generator of the training
        pin_memory=pin_memory,
    )
    with _needs_shared_memory():  # of the queues
        batches = iter(loader)
    if threading.current_thread() is threading.main_thread() and handler is not None:
        # torch would raise a worker's death wherever the main thread happens to be; `_next` detects it while waiting.
        signal.signal(signal.SIGCHLD, handler)
    return _from_workers(batches, reader, timeout, waiting)


def read_beside(
    source: Source, collate: Callable[[list[Any]], Any], chunks: list[list[Key]], workers: int
) -> Generator[Any]:
    """A batch for each chunk of keys, in order; workers read all of them at once, beside what follows.

    Args:
        source: of the items.
        collate: makes a small batch, which a worker keeps until it is asked for, of a list of items.
        chunks: the keys of each batch.
        workers: processes that read, at least 1.

    Raises:
        DataError: as `read_batches`.
    """
    ahead = -(-len(chunks) // workers) or None
    return read_batches(Reader(source, collate, workers), iter(chunks), workers, 300, None, False, lambda: None, ahead)


def _read_here(reader: Reader, keys: Iterator[list[Key]], pin_memory: bool) -> Generator[Any]:
    for batch_keys in keys:
        batch = _checked(reader.__getitems__(batch_keys))
        yield _pinned(batch) if pin_memory else batch


def _from_workers(
    batches: Iterator[Any], reader: Reader, timeout: float, waiting: Callable[[], None]
) -> Generator[Any]:
    try:
        while (batch := _next(batches, reader, timeout, waiting)) is not None:
            yield _checked(batch)
    finally:
        del batches  # stops the workers immediately


def _pinned(batch: Batch) -> Batch:
    return Batch._make(None if part is None else part.pin_memory() for part in batch)


def _next(batches: Iterator[Any], reader: Reader, timeout: float, waiting: Callable[[], None]) -> Any:
    """The next batch, None after the last; checks once a second that all workers are alive.

    Failures are returned, not raised: the frames of a traceback would keep the iterator, and its workers, alive.
    """
    deadline = time.monotonic() + timeout
    while True:
        waiting()
        try:
            return next(batches, None)
        except (RuntimeError, OSError, EOFError) as error:
            reason = " ".join(str(error).split())
            if reason.startswith("Caught "):  # by a worker that lives: a bug
                raise
        if "timed out" not in reason:
            dead = {int(number) for number in re.findall(r"\d+", reason.partition("pid")[2])}
            return _Failure(
                DataError,
                f"a data worker died while reading {reader.samples_in_work(dead)}: {reason}; "
                "if memory is short, use fewer workers",
            )
        if time.monotonic() >= deadline:
            return _Failure(
                DataError,
                f"no batch within {timeout:g} s: the data workers hang while reading {reader.samples_in_work(set())}",
            )


def _share(batch: Any) -> None:
    """Move the tensors of a batch to shared memory; torch would do so in a thread, which drops what does not fit."""
    if isinstance(batch, Tensor):
        batch.share_memory_()  # type: ignore[no-untyped-call]
    elif isinstance(batch, (list, tuple)):
        for part in batch:
            _share(part)


@contextmanager
def _needs_shared_memory() -> Iterator[None]:
    """Make one line of an error of shared memory, which is 64 MB in a container of Docker's."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if "shared memory" not in str(error) and getattr(error, "errno", None) != errno.ENOSPC:
            raise
        reason = getattr(error, "strerror", None) or str(error).rpartition(": ")[2].partition(" (")[0]
        raise StorageError(
            f"/dev/shm: {reason}, and data workers need it for their batches; give it more (docker run --shm-size=8g), "
            "or set data.workers=0"
        ) from None


def _checked(batch: Any) -> Any:
    if isinstance(batch, _Failure):
        raise batch.kind(batch.text)
    return batch


def _unchanged(batch: Any) -> Any:
    return batch
