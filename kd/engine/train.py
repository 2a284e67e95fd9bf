"""The training loop, once, for every method, dataset and network."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from kd.engine.step import Supervised, Term, distill_step
from kd.precision import Precision
from kd.types import Batch


class DivergedError(ValueError):
    """The loss is no finite number any more (exit status 4)."""


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
    step: int = 0  # optimizer updates made so far
    enter: Callable[["Run"], None] = lambda run: None  # before each step: what rests, and at which rate the others go


def train(run: Run) -> None:
    """Take a run from step `run.step` to step `run.steps`.

    Raises:
        DivergedError: a loss or the gradient is not finite; the parameters are still those of the step before.
    """
    run.student.train()
    while run.step < run.steps:
        run.enter(run)
        for group in run.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * run.factor(run.step)
        means: dict[str, Tensor] = {}
        for micro in range(run.accumulate):
            batch = to_device(next(run.batches), run.precision)
            with gradients_synced(run.student, micro == run.accumulate - 1):
                losses = distill_step(run, batch)
                (losses["total"] / run.accumulate).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach() / run.accumulate
        norm = clip_grad_norm_(run.student.parameters(), run.clip_norm)
        if not math.isfinite(norm.item()):  # .item() waits for the device
            raise DivergedError(_not_finite(run.step, means, norm))
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.step += 1
        run.due(run, means | {"gradient_norm": norm})


def to_device(batch: Batch, precision: Precision) -> Batch:
    """The batch on the device, images float32 in [0, 1]."""
    labels, inside = (each.to(precision.device, non_blocking=True) for each in (batch.labels, batch.inside))
    return Batch(precision.images(batch.images), labels, inside, batch.keys)


def gradients_synced(student: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Let DDP average gradients over the processes only when `now`; nothing in a single process."""
    no_sync = getattr(student, "no_sync", None)
    return nullcontext() if now or no_sync is None else no_sync()


def _not_finite(step: int, means: Mapping[str, Tensor], norm: Tensor) -> str:
    values = {name: value.item() for name, value in means.items()}
    bad = [name for name, value in values.items() if not math.isfinite(value) and name != "total"]
    listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    what = f"term '{bad[0]}' is {values[bad[0]]}" if bad else f"the gradient's norm is {norm.item()}"
    return f"step {step + 1}: {what} ({listed}); lower optimizer.args.lr, or set train.clip_norm"
