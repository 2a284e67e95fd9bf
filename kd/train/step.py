"""One step of distillation: both networks on one batch, every loss by name; and the state that it advances."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from kd.machine import Precision
from kd.parts.objective import Supervised, Term
from kd.train.phases import Phases
from kd.types import Batch, Tapped


@dataclass
class TrainState:
    """A run while it trains: the networks and losses, the optimizer, and the position of the run."""

    student: nn.Module  # all that trains; wrapped by DDP under torchrun
    teacher: Callable[[Batch], Tapped | None]  # returns None without distillation
    supervised: Supervised
    terms: Mapping[str, Term]
    optimizer: Optimizer
    phases: Phases  # by step: which modules are frozen, and the learning rate
    ema: AveragedModel | None  # of the student's network
    batches: Iterator[Batch]  # micro-batches, as the loader makes them
    precision: Precision
    steps: int  # the length of the run
    accumulate: int  # micro-batches a step
    clip_norm: float  # inf: only measured
    step: int = 0  # optimizer updates so far


def distill_step(run: TrainState, batch: Batch) -> dict[str, Tensor]:
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
        assert teacher is not None
        losses[name] = term(name, student, teacher, batch)
        total = total + term.weight_at(run.step) * losses[name]
    return losses | {"total": total}


class NotFinite(NamedTuple):
    """A step whose loss or gradient is not finite, before the update: the parameters are still finite."""

    batches: list[Batch]  # the step's micro-batches, as the loader made them
    losses: list[dict[str, Tensor]]  # of each micro-batch
    norm: Tensor  # of the gradient

    def __str__(self) -> str:
        """The term that is not finite, and all losses, of the first such micro-batch."""
        values = {name: value.item() for name, value in self.losses[self.culprits()[0]].items()}
        terms = [name for name, value in values.items() if not math.isfinite(value) and name != "total"]
        listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        what = f"term '{terms[0]}' is {values[terms[0]]}" if terms else f"the gradient's norm is {self.norm.item()}"
        return f"{what} ({listed})"

    def culprits(self) -> list[int]:
        """The micro-batches with a loss that is not finite; all, if only the gradient is not finite."""
        finite = [all(math.isfinite(loss.item()) for loss in losses.values()) for losses in self.losses]
        return [index for index in range(len(finite)) if not finite[index] or all(finite)]
