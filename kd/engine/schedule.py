"""Schedules: factors of the step. `poly(steps=...)` returns `factor(step)` >= 0; the engine sets lr = initial · factor.

A warm-up is a number of steps, or a share of them such as "5%"; in it the factor climbs linearly from 1/warmup.
"""

import math
from collections.abc import Callable

from kd.recipe import as_steps

__all__ = ["constant", "cosine", "linear", "poly"]

Factor = Callable[[int], float]


def poly(*, steps: int, power: float = 0.9, warmup: int | str = 0) -> Factor:
    """(1 - step/steps)^power: the schedule of DeepLab and of most segmentation papers.

    Args:
        steps: the run's length.
        power: exponent, > 0.
        warmup: steps, or a share of them.
    """
    return _warmed(lambda progress: (1 - progress) ** power, steps, warmup)


def cosine(*, steps: int, end: float = 0.0, warmup: int | str = 0) -> Factor:
    """Half a cosine from 1 to `end`.

    Args:
        steps: the run's length.
        end: the last factor, 0 … 1.
        warmup: steps, or a share of them.
    """
    return _warmed(lambda progress: end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2, steps, warmup)


def constant(*, steps: int, warmup: int | str = 0) -> Factor:
    """1, after the warm-up.

    Args:
        steps: the run's length.
        warmup: steps, or a share of them.
    """
    return _warmed(lambda progress: 1.0, steps, warmup)


def linear(*, steps: int, start: float = 1.0, end: float = 0.0, over: int | str = "100%") -> Factor:
    """From `start` to `end` in a straight line, then `end`: for learning rates and for the weights of terms.

    Args:
        steps: the run's length.
        start: factor at step 0, >= 0.
        end: factor from step `over` on, >= 0.
        over: steps, or a share of them.
    """
    if start < 0 or end < 0:
        raise ValueError(f"start and end must be >= 0, got {start} and {end}")
    length = max(as_steps(over, steps), 1)
    return lambda step: start + (end - start) * min(step / length, 1.0)


def _warmed(shape: Callable[[float], float], steps: int, warmup: int | str) -> Factor:
    """`shape` of the progress 0 … 1 behind a linear warm-up."""
    climb = as_steps(warmup, steps)
    if climb > steps:
        raise ValueError(f"warmup: {climb} steps, but the run has {steps}; shorten the warm-up")

    def factor(step: int) -> float:
        if step < climb:
            return (step + 1) / climb
        return shape((step - climb) / max(steps - climb, 1))

    return factor
