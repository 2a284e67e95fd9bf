"""The state of a run in checkpoints: saved, restored, and returned to after a loss that is not finite."""

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kd import distributed
from kd.errors import DivergedError, NoCheckpointError, StorageError
from kd.machine import random_state, set_random_state
from kd.parts.optimizer import load_optimizer
from kd.train.between_steps.checkpoint import Checkpoints
from kd.train.between_steps.guard import ADVICE
from kd.train.between_steps.watch import Watch
from kd.train.step import TrainState


def save(run: TrainState, watch: Watch, *, best: bool, needed: bool) -> None:
    """Write a checkpoint; a failure is a warning, unless it is `needed`.

    Args:
        run: the state, after a whole step.
        watch: the rest of what a resumed run needs.
        best: whether this is the best evaluation so far.
        needed: whether the run ends or stops here.

    Raises:
        StorageError: the checkpoint is needed and cannot be written.
        DivergedError: the state contains NaN.
    """
    settle(run, watch, wait=True)  # a step that is not finite is reported, not saved
    checkpoints = watch.checkpoints
    if checkpoints is None:
        return
    state = state_of(run, watch)
    with_nan = [name for name in ("student", "optimizer", "ema") if _has_nan(state[name])]  # waits for the device
    if with_nan:
        raise DivergedError(
            f"step {run.step}: NaN in the {' and the '.join(with_nan)}, not saved; "
            f"the last checkpoint is good; {ADVICE}"
        )
    began, lost = time.monotonic(), False
    try:
        lost = distributed.first(lambda: _write(checkpoints, state, watch, best=best))
    except StorageError as error:
        if needed:
            raise
        if best:
            watch.evaluations.forget_best()
        warnings.warn(f"{error}; the next save tries again", stacklevel=2)
    watch.save_seconds = time.monotonic() - began
    if lost:
        raise StorageError(
            f"{checkpoints.folder.parent}: was removed while the run trained; its recipe, its inputs and a checkpoint "
            f"of step {run.step} are there again, its curves are lost; the same command resumes the run"
        )


def state_of(run: TrainState, watch: Watch) -> dict[str, Any]:
    """The content of a checkpoint; every rank must call this equally often."""
    distributed.share_buffers(run.student)  # what a resumed run loads on every rank
    return {
        "format": 1,
        "network": watch.network,
        "step": run.step,
        "student": distributed.bare(run.student).state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "ema": None if run.ema is None else run.ema.state_dict(),
        "rng": distributed.gathered(random_state(run.precision.device)),
        "seconds": watch.seconds(),
        "peak_memory": watch.peak_memory(run.precision.device),
        "not_finite": watch.guard.count,
        "save_seconds": watch.save_seconds,
        "unreported": distributed.gathered(watch.reports.state_dict()),
    } | watch.evaluations.state_dict(run)


def _write(checkpoints: Checkpoints, state: dict[str, Any], watch: Watch, *, best: bool) -> bool:
    """Write the state, after the inputs that it was trained on; whether the run directory had been removed."""
    description = watch.description
    lost = description is not None and description.is_lost
    if description is not None:
        if lost:
            description.write()
        description.record.save(state["step"])
    checkpoints.save(state, step=state["step"], best=best)
    return lost


def restore(run: TrainState, watch: Watch, state: dict[str, Any]) -> list[str]:
    """Load a checkpoint's state into a run that starts at its step.

    Returns:
        Lines for the user.

    Raises:
        NoCheckpointError: the checkpoint is of another network.
    """
    folder = watch.checkpoints.folder if watch.checkpoints else Path()
    network = state.get("network")
    if str(network).rpartition("/")[2] != watch.network.rpartition("/")[2]:  # the run may have been moved
        raise NoCheckpointError(f"{folder}: holds {network}, but the recipe has {watch.network}; use --fresh")
    try:
        _load(run, state)
        watch.evaluations.load_state_dict(run, state)
        watch.seconds_before, watch.save_seconds = state["seconds"], state["save_seconds"]
        watch.guard.count = state["not_finite"]
        before, now = len(state["rng"]), distributed.world()
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        first = " ".join(str(error).split())[:200]
        raise NoCheckpointError(f"{folder}: does not fit this recipe ({first}); use --fresh") from None
    watch.peak_before = state.get("peak_memory")  # checkpoints of kd 0.2 have none
    watch.reports.load_state_dict(state.get("unreported", [])[distributed.rank() :: now])  # absent before 0.3
    if before != now:
        return [f"saved by {before} processes, resumed by {now}: not bit-identical to an uninterrupted run"]
    set_random_state(run.precision.device, state["rng"][distributed.rank()])
    return []


def settle(run: TrainState, watch: Watch, *, wait: bool) -> None:
    """Report the numbers that have arrived, and handle the steps that are not finite.

    Args:
        run: the state.
        watch: its readback, reports and guard.
        wait: wait for the device, for the numbers of all steps.

    Raises:
        DivergedError: the guard's policy is "stop", or its limit is reached.
    """
    for numbers in watch.readback.arrived(wait=wait):
        watch.reports.add(numbers)
        if not numbers.finite:
            watch.guard.leave_out(numbers)
            if watch.guard.policy == "restore":
                go_back(run, watch)
        watch.reports.write(numbers, last=numbers.step == run.steps, not_finite=watch.guard.count)


def go_back(run: TrainState, watch: Watch) -> None:
    """Load the weights and the optimizer's state of the last checkpoint; step and images continue.

    Raises:
        NoCheckpointError: no checkpoint is valid.
    """
    checkpoints = watch.checkpoints
    newest = None if checkpoints is None else distributed.first(checkpoints.newest)
    if newest is None:
        folder = f"{checkpoints.folder}: " if checkpoints else ""
        raise NoCheckpointError(f"{folder}no checkpoint to return to; start over with --fresh")
    _load(run, newest[0])


def load_best(checkpoints: Checkpoints, step: int) -> dict[str, Any]:
    """The state of the best checkpoint, which is of `step`.

    Raises:
        NoCheckpointError: the file is missing or damaged.
    """
    path: Path | None = checkpoints.best()
    try:
        if path is not None and (state := checkpoints.read(path))["step"] == step:
            return state
        what = f"{checkpoints.folder}: the best checkpoint, of step {step}, is missing"
    except StorageError as error:
        what = str(error)
    raise NoCheckpointError(f"{what}, and the run has no result without it; start over with --fresh")


def load_student(student: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a checkpoint's student; those of kd 0.6 have no supervised loss, whose buffers stay as they are."""
    own = {name: value for name, value in student.state_dict().items() if name.startswith("losses.supervised.")}
    student.load_state_dict({**own, **state})


def _load(run: TrainState, state: dict[str, Any]) -> None:
    load_student(distributed.bare(run.student), state["student"])
    load_optimizer(run.optimizer, state["optimizer"])
    run.phases.forget()
    run.update.forget()
    if run.ema is not None:
        run.ema.load_state_dict(state["ema"])


def _has_nan(state: Any) -> bool:
    if isinstance(state, Tensor):
        return state.is_floating_point() and bool(state.isnan().any())
    values = state.values() if isinstance(state, Mapping) else state if isinstance(state, (list, tuple)) else ()
    return any(_has_nan(value) for value in values)
