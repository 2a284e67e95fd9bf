"""The training loop, once, for every method, dataset and network."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from kd import distributed
from kd.errors import DivergedError
from kd.parts.roles import to_device
from kd.train.step import NotFinite, Run, distill_step


def give_up(run: Run, trouble: NotFinite) -> None:
    """Raise `DivergedError`."""
    raise DivergedError(f"step {run.step + 1}: {trouble}; {ADVICE}")


ADVICE = "lower optimizer.args.lr, or set train.clip_norm"


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


def gradients_synced(student: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Let DDP average gradients over the processes only when `now`; nothing in a single process."""
    no_sync = getattr(student, "no_sync", None)
    return nullcontext() if now or no_sync is None else no_sync()
