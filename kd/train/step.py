"""One step of distillation: both networks on its images, every loss by name, the update; and the state it advances."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from kd import distributed
from kd.machine import Precision
from kd.parts.mixing import Draws, Mix, mixed, scaled
from kd.parts.objective import Supervised, Term, connected
from kd.parts.roles import to_device
from kd.train.phases import Phases
from kd.train.readback import packed
from kd.train.update import Update
from kd.types import Batch, Tapped, as_tuple

NOTHING_DRAWN = Draws()


@dataclass
class TrainState:
    """A run while it trains: the networks and losses, the optimizer, and the position of the run."""

    student: nn.Module  # all that trains; wrapped by DDP under torchrun
    teacher: Callable[[Batch], Tapped | None]  # returns None without distillation
    supervised: Supervised
    terms: Mapping[str, Term]
    optimizer: Optimizer
    phases: Phases  # by step: which modules are frozen, and the learning rate
    update: Update  # of the optimizer and the moving average
    ema: AveragedModel | None  # of the student's network
    batches: Iterator[Batch]  # micro-batches, as the loader makes them
    precision: Precision
    steps: int  # the length of the run
    accumulate: int  # micro-batches a step
    clip_norm: float  # inf: only measured
    step: int = 0  # optimizer updates so far
    draws: Draws = NOTHING_DRAWN  # the size of each step's images, and what those without labels exchange
    weights: dict[str, float | Tensor] = field(default_factory=dict)  # of the terms, in this step


class Micro(NamedTuple):
    """The input of a micro-batch."""

    batch: Batch
    taught: Tapped | None = None  # the teacher's maps, where they are not computed in the step
    mix: Mix | None = None  # what its images without labels exchange


def set_numbers(run: TrainState) -> None:
    """Set the learning rates and the weights of the terms: what the next step reads, and the step alone determines."""
    run.phases.set_learning_rate(run.step)
    scalars = run.phases.scalars
    run.weights = {name: scalars.put(f"weight/{name}", term.weight_at(run.step)) for name, term in run.terms.items()}


def micro_batches(run: TrainState, batches: Sequence[Batch]) -> list[Micro]:
    """The input of the next step: its micro-batches at the size of the step, and what they exchange."""
    scale = run.draws.scale(run.step)
    return [
        Micro(scaled(batch, scale, run.precision), mix=run.draws.mix(run.step, micro))
        for micro, batch in enumerate(batches)
    ]


def train_step(run: TrainState, micros: Sequence[Micro]) -> Tensor:
    """Make one step: forward and backward passes on its micro-batches, clipping, and the update.

    On a GPU nothing here waits for the device, except in the first update of a parameter: a graph may capture it.

    Args:
        run: the state; its parameters, its optimizer, its moving average and the student's buffers change.
        micros: one or more micro-batches, images uint8.

    Returns:
        The numbers of the step, as `packed` makes them.
    """
    student = distributed.bare(run.student)
    buffers = run.update.buffers(student)
    losses = accumulate_gradients(run, micros)
    gradients = trained_by(run)
    norm = clipped(run, gradients)
    zero = 0 * norm  # NaN if the norm is not finite, and after a loss that is not: each operation is a launch
    for by_name in losses:
        zero = zero * by_name["total"]
    not_finite = distributed.highest(zero.ne_(0).float())  # a float, as torch's fused optimizers read it
    run.update(student, list(gradients), not_finite, buffers)
    run.optimizer.zero_grad()
    return packed(not_finite, norm, losses)


def accumulate_gradients(run: TrainState, micros: Sequence[Micro]) -> list[dict[str, Tensor]]:
    """Run forward and backward passes on all micro-batches; return the losses of each, detached."""
    all_losses: list[dict[str, Tensor]] = []
    for micro in micros:
        with gradients_synced(run.student, len(all_losses) == len(micros) - 1):
            mix = None if micro.mix is None else Mix._make(map(run.precision.sent, micro.mix))
            losses = distill_step(run, to_device(micro.batch, run.precision), micro.taught, mix)
            total = losses["total"] if len(micros) == 1 else losses["total"] / len(micros)
            total.backward()  # type: ignore[no-untyped-call]
        all_losses.append({name: loss.detach() for name, loss in losses.items()})
    return all_losses


def trained_by(run: TrainState) -> dict[nn.Parameter, Tensor]:
    """The parameters that the step trains, and their gradients; each look at a gradient takes its time."""
    groups = run.optimizer.param_groups  # a walk through the student takes longer, but another order rounds otherwise
    parameters: Iterable[nn.Parameter] = groups[0]["params"] if len(groups) == 1 else run.student.parameters()
    return {parameter: gradient for parameter in parameters if (gradient := parameter.grad) is not None}


def clipped(run: TrainState, gradients: Mapping[nn.Parameter, Tensor]) -> Tensor:
    """Clip the gradients of the step; return their norm before."""
    norm = total_norm(list(gradients.values()))
    if run.clip_norm < math.inf:
        clip_grads_with_norm_(gradients, run.clip_norm, norm)
    return norm


def total_norm(gradients: list[Tensor]) -> Tensor:
    """The value of torch's `get_total_norm`, without an operation of the processor for each gradient."""
    if len({gradient.dtype for gradient in gradients}) != 1:
        return get_total_norm(gradients)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return norm


def distill_step(
    run: TrainState, batch: Batch, taught: Tapped | None = None, mix: Mix | None = None
) -> dict[str, Tensor]:
    """Run both networks on one micro-batch.

    Args:
        run: the run.
        batch: float images on the run's device.
        taught: the teacher's maps, where they are known already.
        mix: what its images without labels exchange before the student sees them.

    Returns:
        Every loss by name, unweighted, and "total", their weighted sum: scalars, float32 at least.
    """
    with run.precision.autocast():
        teacher = run.teacher(batch) if taught is None else taught  # None without distillation
        if mix is not None and teacher is not None:
            batch, teacher = mixed(batch, teacher, mix)
        student = run.student(batch.images)
    supervised = run.supervised(student, batch.labels)
    losses = {"supervised": connected(supervised, (student.logits, *student.aux.values()))}
    total = losses["supervised"]
    for name, term in run.terms.items():
        assert teacher is not None
        losses[name] = connected(term(name, student, teacher, batch), as_tuple(student.at[name]))
        total = total + run.weights[name] * losses[name]
    return losses | {"total": total}


def loss_names(run: TrainState) -> tuple[str, ...]:
    """The names of the losses of a step, in order."""
    return ("supervised", *run.terms, "total")


def gradients_synced(student: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Let DDP average gradients over the processes only if `now`; no effect in a single process."""
    no_sync = getattr(student, "no_sync", None)
    return nullcontext() if now or no_sync is None else no_sync()
