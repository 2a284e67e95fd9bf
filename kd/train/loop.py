"""The training loop, once, for every method, dataset and network."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from kd import distributed
from kd.errors import StoppedError
from kd.parts.roles import to_device
from kd.train.saving import go_back, save
from kd.train.step import NotFinite, TrainState, distill_step
from kd.train.watch import Watch
from kd.types import Batch


def train(run: TrainState, watch: Watch | None = None) -> None:
    """Train a run from step `run.step` to step `run.steps`, or until its patience runs out.

    Args:
        run: the state; advanced in place.
        watch: what happens between the steps; without it, nothing is reported, evaluated or saved.

    Raises:
        DivergedError: a loss or the gradient is not finite; the parameters are those of the previous step.
        StoppedError: a signal arrived; the state is saved.
    """
    watch = watch or Watch()
    evaluations, signal, is_best = watch.evaluations, None, False
    run.student.train()
    while run.step < run.steps and not evaluations.ended_early:
        run.student = run.phases.enter(run.step, run.student)
        run.phases.set_learning_rate(run.step)
        batches = [next(run.batches) for _ in range(run.accumulate)]
        losses = accumulate_gradients(run, batches)
        means = {name: torch.stack([values[name] for values in losses]).mean() for name in losses[0]}
        means["gradient_norm"] = clip_grad_norm_(run.student.parameters(), run.clip_norm)
        if is_finite(means):
            run.optimizer.step()
            update_average(run)
        else:
            watch.guard.leave_out(run, NotFinite(batches, losses, means["gradient_norm"]))
            if watch.guard.policy == "restore":
                go_back(run, watch)
        run.optimizer.zero_grad()
        run.step += 1

        watch.reports.write(run, means, batches[-1], not_finite=watch.guard.count)
        watch.guard.remember(run.student)
        signal = watch.stop.agreed()
        evaluations.pending = evaluations.is_due(run)
        is_best = False
        if evaluations.pending and signal is None:
            try:
                is_best = evaluations.evaluate(run)
                watch.reports.pause()
            except StoppedError as stopped:  # the evaluation is repeated when the run resumes
                signal = stopped.signal
        last = run.step == run.steps or evaluations.ended_early
        leaving = signal is not None and (evaluations.pending or not last)
        if watch.saves_at(run.step) or last or is_best or leaving:
            save(run, watch, best=is_best, needed=last or leaving)
        if leaving:
            assert signal is not None
            raise StoppedError(signal)


def accumulate_gradients(run: TrainState, batches: list[Batch]) -> list[dict[str, Tensor]]:
    """Run forward and backward passes on all micro-batches; return the losses of each, detached."""
    all_losses: list[dict[str, Tensor]] = []
    for batch in batches:
        with gradients_synced(run.student, len(all_losses) == run.accumulate - 1):
            losses = distill_step(run, to_device(batch, run.precision))
            (losses["total"] / run.accumulate).backward()  # type: ignore[no-untyped-call]
        all_losses.append({name: loss.detach() for name, loss in losses.items()})
    return all_losses


def is_finite(means: dict[str, Tensor]) -> bool:
    """Whether the loss and the gradient are finite on every rank."""
    finite = math.isfinite((means["gradient_norm"] + 0 * means["total"]).item())  # .item() waits for the device
    return not distributed.largest(not finite)


def update_average(run: TrainState) -> None:
    """Update the moving average of the student's network; on every rank, it averages the buffers of rank 0."""
    if run.ema is not None:
        network = distributed.bare(run.student).get_submodule("network")
        distributed.share_buffers(network)
        run.ema.update_parameters(network)


def gradients_synced(student: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Let DDP average gradients over the processes only if `now`; no effect in a single process."""
    no_sync = getattr(student, "no_sync", None)
    return nullcontext() if now or no_sync is None else no_sync()
