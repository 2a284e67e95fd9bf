"""What the loader gives by itself: whether it keeps up with the training step."""

import sys

import torch

from kd.data.speed import TIMED, WARM, images_per_second
from kd.machine import loader_workers
from kd.parts.assemble import Parts
from kd.parts.stream import stream
from kd.recipe import Recipe
from kd.units import counted


def time_loader(parts: Parts, *, warm: float = WARM, timed: float = TIMED) -> float:
    """Images per second of a recipe's loader alone, with its workers, while nothing trains.

    Args:
        parts: of the recipe.
        warm: seconds, at most, of the first pass over the images, which is not timed.
        timed: seconds to time; at least one batch.
    """
    return images_per_second(stream(parts, seed=0, steps=sys.maxsize), len(parts.training), warm=warm, timed=timed)


def limit_line(recipe: Recipe, device: torch.device, loaded: float, trained: float) -> str:
    """Which of the two is the limit, for the user; both in images per second."""
    workers = loader_workers(recipe.data.workers, device)
    who = counted(workers, "worker") if workers else "no worker: it loads between the steps"
    limit = "the step" if loaded >= trained else "the loader"
    return (
        f"loader alone: {loaded:.0f} images/s ({who}), {loaded / trained:.1f} × what the step trains; "
        f"{limit} is the limit"
    )
