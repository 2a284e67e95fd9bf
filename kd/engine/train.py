"""The training loop, once, for every method, dataset and network."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from kd.engine import distributed
from kd.engine.step import Supervised, Term, distill_step
from kd.precision import Precision
from kd.types import Batch


class DivergedError(ValueError):
    """The loss is no finite number any more (exit status 4)."""


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


def give_up(run: "Run", trouble: NotFinite) -> None:
    """Raise `DivergedError`."""
    raise DivergedError(f"step {run.step + 1}: {trouble}; {ADVICE}")


ADVICE = "lower optimizer.args.lr, or set train.clip_norm"


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
    average: Callable[[], None] = lambda: None  # after each update: the moving average follows
    not_finite: Callable[["Run", NotFinite], None] = give_up  # in place of an update; returns to leave the update out


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
        batches = [next(run.batches) for _ in range(run.accumulate)]
        losses: list[dict[str, Tensor]] = []
        for batch in batches:
            with gradients_synced(run.student, len(losses) == run.accumulate - 1):
                found = distill_step(run, to_device(batch, run.precision))
                (found["total"] / run.accumulate).backward()  # type: ignore[no-untyped-call]
            losses.append({name: value.detach() for name, value in found.items()})
        means = {name: torch.stack([one[name] for one in losses]).mean() for name in losses[0]}
        norm = clip_grad_norm_(run.student.parameters(), run.clip_norm)
        good = math.isfinite((norm + 0 * means["total"]).item())  # .item() waits for the device
        if not distributed.largest(not good):
            run.optimizer.step()
            run.average()
        else:
            run.not_finite(run, NotFinite(batches, losses, norm))
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
