"""What a loader gives by itself, while nothing trains."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import cast

from kd.types import Batch
from kd.units import counted

WARM = 3.0  # seconds at most: workers start, and images that are held are read once
TIMED = 2.0  # seconds


def images_per_second(batches: Iterator[Batch], images: int, *, warm: float = WARM, timed: float = TIMED) -> float:
    """Images per second of an endless stream, which is closed afterwards.

    Args:
        batches: the stream.
        images: of one pass, which is not timed.
        warm: seconds, at most, of that pass.
        timed: seconds to time; at least one batch.
    """
    with closing(cast("Generator[Batch]", batches)):  # stops the workers
        began, first_pass = time.monotonic(), images
        for batch in batches:
            first_pass -= len(batch.images)
            if first_pass <= 0 or time.monotonic() - began > warm:
                break
        began, read = time.monotonic(), 0
        for batch in batches:
            read += len(batch.images)
            if (passed := time.monotonic() - began) > timed:
                return read / passed
    raise AssertionError("the stream of a run has no end")


def workers_text(workers: int) -> str:
    """Who loads, for the user: `2 workers`, or `no worker`."""
    return counted(workers, "worker") if workers else "no worker"
