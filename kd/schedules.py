"""Schedules: factors of the step. `poly(steps=...)` returns `factor(step)` >= 0; the engine sets lr = initial · factor.

`plateau` alone has a state: it is told the mIoU of every evaluation.
A warm-up is a number of steps, or a share of them such as "5%"; in it the factor climbs linearly from 1/warmup.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from kd.units import as_steps

__all__ = ["constant", "cosine", "linear", "one_cycle", "plateau", "poly", "step"]

Factor = Callable[[int], float]


@runtime_checkable
class Told(Protocol):
    """What depends on the scores so far: saved with the run, told the metric after every evaluation."""

    def tell(self, metric: float) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class Patience:
    """How many evaluations in a row were no better than the best.

    Attributes:
        patience: so many run it out, >= 1.
        best: the best metric so far.
        worse: evaluations since then.
    """

    patience: int
    best: float = -math.inf
    worse: int = 0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1 evaluation, got {self.patience}")

    @property
    def has_run_out(self) -> bool:
        """Whether the last `patience` evaluations were no better."""
        return self.worse >= self.patience

    def tell(self, metric: float) -> None:
        """Count one evaluation."""
        self.worse = 0 if metric > self.best else self.worse + 1
        self.best = max(self.best, metric)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"best": self.best, "worse": self.worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a checkpoint's state back."""
        self.best, self.worse = state["best"], state["worse"]


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


def one_cycle(*, steps: int, climb: int | str = "30%", start: float = 0.04, end: float = 4e-6) -> Factor:
    """Half a cosine from `start` up to 1, then half a cosine down to `end`; the initial rate is the highest.

    Source: Smith & Topin, arXiv:1708.07120; values and defaults as in torch's OneCycleLR.

    Args:
        steps: the run's length.
        climb: steps, or a share of them, on the way up, the highest one included.
        start: factor at step 0, 0 … 1.
        end: factor at the last step, 0 … 1.
    """
    top = as_steps(climb, steps) - 1
    if not 0 < top < steps - 1:
        raise ValueError(f"climb: {top + 1} of {steps} steps; it takes 2 of them at least, and one must be left")

    def factor(step: int) -> float:
        low, progress = (start, 1 - step / top) if step <= top else (end, (step - top) / (steps - 1 - top))
        return low + (1 - low) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2

    return factor


def step(*, steps: int, at: list[int | str], factor: float = 0.1, warmup: int | str = 0) -> Factor:
    """1, times `factor` from each of the steps `at` on.

    Args:
        steps: the run's length.
        at: steps, or shares of all.
        factor: > 0.
        warmup: steps, or a share of them.
    """
    drops = sorted(as_steps(one, steps) for one in at)
    if factor <= 0:
        raise ValueError(f"factor must be above 0, got {factor}")
    warm = _warmed(lambda progress: 1.0, steps, warmup)
    return lambda step: warm(step) * factor ** bisect_right(drops, step)


def plateau(*, steps: int, factor: float = 0.1, patience: int = 2, warmup: int | str = 0) -> "Plateau":
    """1, times `factor` whenever `patience` evaluations in a row have brought no better mIoU; for learning rates.

    Args:
        steps: the run's length.
        factor: 0 … 1.
        patience: evaluations, >= 1; how often there is one says `train.evaluate_every`.
        warmup: steps, or a share of them.
    """
    if not 0 < factor < 1:
        raise ValueError(f"factor must lie between 0 and 1, got {factor}")
    return Plateau(_warmed(lambda progress: 1.0, steps, warmup), factor, Patience(patience))


@dataclass
class Plateau:
    """The schedule that `plateau` makes: a factor of the step and of the evaluations so far."""

    warm: Factor
    factor: float
    patience: Patience
    drops: int = 0

    def __call__(self, step: int) -> float:
        return self.warm(step) * self.factor**self.drops

    def tell(self, metric: float) -> None:
        """Count one evaluation; lower the rate when patience has run out, and begin anew."""
        self.patience.tell(metric)
        if self.patience.has_run_out:
            self.drops, self.patience.worse = self.drops + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return self.patience.state_dict() | {"drops": self.drops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a checkpoint's state back."""
        self.patience.load_state_dict(state)
        self.drops = state["drops"]


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
