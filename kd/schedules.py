"""Schedules: factors by step. `poly(steps=...)` returns `factor(step)` >= 0; the engine sets lr = initial · factor.

Only `plateau` has a state: it is updated with the mIoU of every evaluation.
A warm-up is a number of steps or a share of all steps such as "5%"; the factor rises linearly from 1/warmup to 1.
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
class ScoreDriven(Protocol):
    """What depends on the scores so far: updated after every evaluation, saved in checkpoints."""

    def update(self, score: float) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class Patience:
    """Counts the evaluations since the best score.

    Attributes:
        patience: evaluations without a better score until it has run out, >= 1.
        best: the best score so far.
        worse: evaluations since the best score.
    """

    patience: int
    best: float = -math.inf
    worse: int = 0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1 evaluation, got {self.patience}")

    @property
    def has_run_out(self) -> bool:
        """Whether none of the last `patience` evaluations improved the best score."""
        return self.worse >= self.patience

    def update(self, score: float) -> None:
        """Count one evaluation."""
        self.worse = 0 if score > self.best else self.worse + 1
        self.best = max(self.best, score)

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"best": self.best, "worse": self.worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.best, self.worse = state["best"], state["worse"]


def poly(*, steps: int, power: float = 0.9, warmup: int | str = 0) -> Factor:
    """(1 - step/steps)^power: the schedule of DeepLab and of most segmentation papers.

    Args:
        steps: length of the run.
        power: exponent, > 0.
        warmup: steps or a share of all.
    """
    return _warmed(lambda progress: (1 - progress) ** power, steps, warmup)


def cosine(*, steps: int, end: float = 0.0, warmup: int | str = 0) -> Factor:
    """Half a cosine from 1 to `end`.

    Args:
        steps: length of the run.
        end: the last factor, 0 … 1.
        warmup: steps or a share of all.
    """
    return _warmed(lambda progress: end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2, steps, warmup)


def constant(*, steps: int, warmup: int | str = 0) -> Factor:
    """Constant 1 after the warm-up.

    Args:
        steps: length of the run.
        warmup: steps or a share of all.
    """
    return _warmed(lambda progress: 1.0, steps, warmup)


def one_cycle(*, steps: int, climb: int | str = "30%", start: float = 0.04, end: float = 4e-6) -> Factor:
    """Half a cosine from `start` up to 1, then half a cosine down to `end`; the initial rate is the maximum.

    Source: Smith & Topin, arXiv:1708.07120; values and defaults as in torch's OneCycleLR.

    Args:
        steps: length of the run.
        climb: steps or a share of all from `start` to the maximum, both included.
        start: factor at step 0, 0 … 1.
        end: factor at the last step, 0 … 1.
    """
    top = as_steps(climb, steps) - 1
    if not 0 < top < steps - 1:
        raise ValueError(f"climb: {top + 1} of {steps} steps; use at least 2, and leave at least 1 for the descent")

    def factor(step: int) -> float:
        low, progress = (start, 1 - step / top) if step <= top else (end, (step - top) / (steps - 1 - top))
        return low + (1 - low) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2

    return factor


def step(*, steps: int, at: list[int | str], factor: float = 0.1, warmup: int | str = 0) -> Factor:
    """Start at 1 and multiply by `factor` at each of the steps `at`.

    Args:
        steps: length of the run.
        at: steps or shares of all.
        factor: > 0.
        warmup: steps or a share of all.
    """
    drops = sorted(as_steps(value, steps) for value in at)
    if factor <= 0:
        raise ValueError(f"factor must be above 0, got {factor}")
    warm = _warmed(lambda progress: 1.0, steps, warmup)
    return lambda step: warm(step) * factor ** bisect_right(drops, step)


def plateau(
    *, steps: int, factor: float = 0.1, patience: int = 2, end: float = 0.0, warmup: int | str = 0
) -> "Plateau":
    """Start at 1 and multiply by `factor` after `patience` evaluations without a better mIoU; for learning rates only.

    Args:
        steps: length of the run.
        factor: 0 … 1.
        patience: evaluations, >= 1; `train.evaluate_every` sets their interval.
        end: the smallest factor, 0 … 1.
        warmup: steps or a share of all.
    """
    if not 0 < factor < 1:
        raise ValueError(f"factor must be between 0 and 1, got {factor}")
    if not 0 <= end <= 1:
        raise ValueError(f"end must be 0 … 1, got {end}")
    return Plateau(_warmed(lambda progress: 1.0, steps, warmup), factor, Patience(patience), end)


@dataclass
class Plateau:
    """The schedule that `plateau` returns: a factor of the step and of the scores so far."""

    warm: Factor
    factor: float
    patience: Patience
    end: float = 0.0
    drops: int = 0

    def __call__(self, step: int) -> float:
        return self.warm(step) * max(self.factor**self.drops, self.end)

    def update(self, score: float) -> None:
        """Count one evaluation; when patience has run out, lower the rate and restart the count."""
        self.patience.update(score)
        if self.patience.has_run_out:
            self.drops, self.patience.worse = self.drops + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return self.patience.state_dict() | {"drops": self.drops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.patience.load_state_dict(state)
        self.drops = state["drops"]


def linear(*, steps: int, start: float = 1.0, end: float = 0.0, over: int | str = "100%") -> Factor:
    """Linear from `start` to `end`, then `end`: for learning rates and for the weights of terms.

    Args:
        steps: length of the run.
        start: factor at step 0, >= 0.
        end: factor from step `over` on, >= 0.
        over: steps or a share of all.
    """
    if start < 0 or end < 0:
        raise ValueError(f"start and end must be >= 0, got {start} and {end}")
    length = max(as_steps(over, steps), 1)
    return lambda step: start + (end - start) * min(step / length, 1.0)


def _warmed(shape: Callable[[float], float], steps: int, warmup: int | str) -> Factor:
    """A linear warm-up, then `shape` of the progress 0 … 1."""
    climb = as_steps(warmup, steps)
    if climb > steps:
        raise ValueError(f"warmup: {climb} steps, but the run has {steps}; shorten the warm-up")

    def factor(step: int) -> float:
        if step < climb:
            return (step + 1) / climb
        return shape((step - climb) / max(steps - climb, 1))

    return factor
