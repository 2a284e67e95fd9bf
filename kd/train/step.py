"""One step of distillation: both networks on one batch, every loss by name; and the run that takes it."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from kd.machine import Precision
from kd.parts.objective import Supervised, Term
from kd.types import Batch


def distill_step(run: "Run", batch: Batch) -> dict[str, Tensor]:
    """Run both networks on one micro-batch.

    Args:
        run: the run.
        batch: float images on the run's device.

    Returns:
        Every loss by name, unweighted, and "total", their weighted sum: scalars, float32 at least.
    """
    with run.precision.autocast():
        teacher = run.teacher(batch)  # None without distillation
        student = run.student(batch.images)
    losses = {"supervised": run.supervised(student, batch.labels)}
    total = losses["supervised"]
    for name, term in run.terms.items():
        losses[name] = term(name, student, teacher, batch)
        total = total + term.weight_at(run.step) * losses[name]
    return losses | {"total": total}


class NotFinite(NamedTuple):
    """A step whose loss or gradient is no finite number, before the update: the parameters are still good."""

    batches: list[Batch]  # the step's micro-batches, as the loader made them
    losses: list[dict[str, Tensor]]  # of each
    norm: Tensor  # of the gradient

    def __str__(self) -> str:
        """Which term it is, and all values; the first micro-batch that shows it."""
        values = {name: value.item() for name, value in self.losses[self.culprits()[0]].items()}
        bad = [name for name, value in values.items() if not math.isfinite(value) and name != "total"]
        listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        what = f"term '{bad[0]}' is {values[bad[0]]}" if bad else f"the gradient's norm is {self.norm.item()}"
        return f"{what} ({listed})"

    def culprits(self) -> list[int]:
        """The micro-batches with a loss that is not finite; all, if it is the gradient alone."""
        bad = [i for i, one in enumerate(self.losses) if not all(math.isfinite(v.item()) for v in one.values())]
        return bad or list(range(len(self.losses)))


@dataclass
class Run:
    """One training run: its parts, where it is, where it ends."""

    student: nn.Module  # what trains, DDP-wrapped under torchrun
    teacher: Callable[[Batch], Any]  # -> Tapped; without terms, None
    supervised: Supervised
    terms: Mapping[str, Term]
    optimizer: Optimizer
    factor: Callable[[int], float]  # step -> factor of each group's initial learning rate
    batches: Iterator[Batch]  # micro-batches, as the loader makes them
    precision: Precision
    steps: int
    accumulate: int  # micro-batches a step
    clip_norm: float  # inf: measure only
    due: Callable[["Run", Mapping[str, Tensor]], None]  # after each step: report, evaluate, save, stop
    not_finite: Callable[["Run", NotFinite], None]  # in place of an update; returns to leave the update out
    step: int = 0  # optimizer updates made so far
    enter: Callable[["Run"], None] = lambda run: None  # before each step: what rests, and at which rate the others go
    average: Callable[[], None] = lambda: None  # after each update: the moving average follows
