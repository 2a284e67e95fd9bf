"""What the loader gives by itself: whether it keeps up with the training step."""

import sys
import time
from collections.abc import Generator
from contextlib import closing
from typing import cast

import torch

from kd.machine import loader_workers
from kd.parts.assemble import Parts
from kd.parts.stream import stream
from kd.recipe import Recipe
from kd.types import Batch

WARM = 3.0  # seconds at most: workers start, and images that are held are read once
TIMED = 2.0  # seconds


def time_loader(parts: Parts, *, warm: float = WARM, timed: float = TIMED) -> float:
    """Images per second of a recipe's loader alone, with its workers, while nothing trains.

    Args:
        parts: of the recipe.
        warm: seconds, at most, of the first pass over the images, which is not timed.
        timed: seconds to time; at least one batch.
    """
    batches = cast("Generator[Batch]", stream(parts, seed=0, steps=sys.maxsize))
    with closing(batches):  # stops the workers
        began, first_pass = time.monotonic(), len(parts.training)
        for batch in batches:
            first_pass -= len(batch.images)
            if first_pass <= 0 or time.monotonic() - began > warm:
                break
        began, images = time.monotonic(), 0
        for batch in batches:
            images += len(batch.images)
            if (passed := time.monotonic() - began) > timed:
                return images / passed
    raise AssertionError("the stream of a run has no end")


def limit_line(recipe: Recipe, device: torch.device, loaded: float, trained: float) -> str:
    """Which of the two is the limit, for the user; both in images per second."""
    workers = loader_workers(recipe.data.workers, device)
    who = f"{workers} worker{'s' if workers != 1 else ''}" if workers else "no worker: it loads between the steps"
    limit = "the step" if loaded >= trained else "the loader"
    return (
        f"loader alone: {loaded:.0f} images/s ({who}), {loaded / trained:.1f} × what the step trains; "
        f"{limit} is the limit"
    )
