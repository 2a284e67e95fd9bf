"""What happens between the steps: reports, evaluations, checkpoints, stops."""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from kd import distributed
from kd.errors import DivergedError, NoCheckpointError, StoppedError, StorageError
from kd.metrics import scores
from kd.runs import SplitResult
from kd.schedules import Patience, ScoreDriven
from kd.train.checkpoint import Checkpoints, read_checkpoint
from kd.train.guard import Guard
from kd.train.loop import ADVICE
from kd.train.signals import Stop
from kd.train.sinks.progress import Progress
from kd.train.step import Run


@dataclass
class Bookkeeping:
    """Called after every step of a run.

    Attributes:
        checkpoints: where states go.
        progress: where numbers go.
        evaluate: scores the networks as they are, by name in the metrics; "val" is that of the result.
        pictures: what such a score, and what is seen in some images, looks like, by name; drawn only if it is shown.
        report_every, evaluate_every, save_every: in steps; the last step does all three.
        batch_size: images a step, for the speed.
        stop: whether a signal has come.
        network: the student's network type: a checkpoint of another one is refused.
        guard: what looks after losses that are not finite.
        gradients_every: steps between two calls of `gradients`; 0: never.
        gradients: figures of the terms' gradients, by name in the metrics.
        patience: ends the run when it has run out; None: never.
        ema: the moving average of the student's network, if there is one.
        seconds: spent in earlier sessions of this run.
        best: step and mIoU of the best evaluation so far.
        latest: the newest evaluation: (step, result).
        pending: whether the evaluation of this step is still to be made, because a signal came first.
        save_seconds: what the last checkpoint took to write.
    """

    checkpoints: Checkpoints
    progress: Progress
    evaluate: Callable[[], Mapping[str, SplitResult]]
    report_every: int
    evaluate_every: int
    save_every: int
    batch_size: int
    stop: Stop
    network: str
    guard: Guard
    gradients_every: int = 0
    gradients: Callable[[], Mapping[str, float]] = dict
    pictures: Callable[[SplitResult], Iterable[tuple[str, np.ndarray]]] = lambda result: ()
    patience: Patience | None = None
    ema: AveragedModel | None = None
    seconds: float = 0.0
    best: dict[str, float] | None = None
    latest: tuple[int, SplitResult] | None = None
    pending: bool = False
    save_seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)
    _best_before: dict[str, float] | None = None
    _window: tuple[float, int] = (0.0, -1)  # when and at which step the speed was last measured

    def __call__(self, run: Run, losses: Mapping[str, Tensor]) -> None:
        last = run.step == run.steps
        if run.step % self.report_every == 0 or last:
            self._report(run, losses)
        if self.gradients_every and run.step % self.gradients_every == 0:
            self.progress.scalars(run.step, self.gradients())
            self._window = (0.0, -1)  # this is no training time
        self.guard.remember(run.student)
        self.pending = run.step % self.evaluate_every == 0 or last
        asked = self.stop.agreed()
        is_best = False
        try:
            if self.pending and asked is None:
                is_best = self._evaluate(run)
                last = run.step == run.steps  # patience may have run out
        except StoppedError as stopped:
            asked = stopped.signal
        leaves = asked is not None and (self.pending or not last)
        if run.step % self.save_every == 0 or last or is_best or leaves:
            self._save(run, is_best, needed=last or leaves)
        if leaves:
            assert asked is not None
            raise StoppedError(asked)

    def begin(self, run: Run) -> None:
        """Before the first step of a session: a first checkpoint, or the evaluation that a signal cut short."""
        self.guard.remember(run.student)
        if run.step == 0:
            self._save(run, False, needed=False)
        elif self.pending and self._evaluate(run):
            self._save(run, True, needed=False)

    def spent(self) -> float:
        """Seconds of training, all sessions together."""
        return self.seconds + time.monotonic() - self.began

    def restore(self, run: Run, state: dict[str, Any]) -> list[str]:
        """Put a checkpoint's state back into a run that starts at its step.

        Returns:
            Lines for the user.

        Raises:
            NoCheckpointError: it is of another network.
        """
        if state["network"] != self.network:
            raise NoCheckpointError(
                f"{self.checkpoints.folder}: holds {state['network']}, the recipe says {self.network}; use --fresh"
            )
        try:
            self._load(run, state)
            for name, one in self._told(run).items():
                one.load_state_dict(state["told"][name])
        except (RuntimeError, ValueError, KeyError) as error:
            first = " ".join(str(error).split())[:200]
            raise NoCheckpointError(
                f"{self.checkpoints.folder}: does not fit this recipe ({first}); use --fresh"
            ) from None
        self.seconds, self.best, self.pending = state["seconds"], state["best"], state["pending"]
        self._end_early(run)
        self.guard.count, self.save_seconds = state["not_finite"], state["save_seconds"]
        before, now = len(state["rng"]), distributed.world()
        if before != now:
            return [f"the checkpoint is of {before} processes, this is {now}: goes on, but not with the same bits"]
        rng = state["rng"][distributed.rank()]
        torch.set_rng_state(rng["cpu"])
        if "cuda" in rng and torch.cuda.is_available():
            torch.cuda.set_rng_state(rng["cuda"])
        return []

    def go_back(self, run: Run) -> None:
        """Put the last checkpoint's weights back, and the optimizer's state; step and images go on.

        Raises:
            NoCheckpointError: there is none that is whole.
        """
        found = distributed.first(self.checkpoints.newest)
        if found is None:
            raise NoCheckpointError(f"{self.checkpoints.folder}: no checkpoint to go back to; use train.on_nan=stop")
        self._load(run, found[0])

    def _load(self, run: Run, state: dict[str, Any]) -> None:
        distributed.bare(run.student).load_state_dict(state["student"])
        run.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])

    def _report(self, run: Run, losses: Mapping[str, Tensor]) -> None:
        now = time.monotonic()
        before, step = self._window
        means = distributed.summed(
            torch.stack([value.float() for value in losses.values()]).cpu()
        )  # waits for the device
        numbers = zip(losses, (means / distributed.world()).tolist(), strict=True)
        values = {n if n == "gradient_norm" else f"loss/{n}": v for n, v in numbers if math.isfinite(v)}
        if self.guard.count:
            values["not_finite"] = self.guard.count
        for index, group in enumerate(run.optimizer.param_groups):
            values["lr" if index == 0 else f"lr/{index}"] = group["lr"]
        if step >= 0:
            values["speed/images_per_second"] = (run.step - step) * self.batch_size / max(now - before, 1e-9)
        self._window = (now, run.step)
        self.progress.scalars(run.step, values)

    def _evaluate(self, run: Run) -> bool:
        """Whether this is the best evaluation so far."""
        results = self.evaluate()
        self.latest = (run.step, results["val"])
        values: dict[str, float] = {}
        for name, result in results.items():
            found = scores(torch.tensor(result.confusion))
            values |= {f"{name}/miou": found.miou, f"{name}/pixel_accuracy": found.pixel_accuracy}
        self.progress.scalars(run.step, values)
        self.progress.pictures(run.step, lambda: self.pictures(results["val"]))
        miou = values["val/miou"]
        self._window = (0.0, -1)  # evaluation is no training time
        self.pending = False
        for one in self._told(run).values():
            one.update(miou)
        self._end_early(run)
        if self.best is not None and miou <= self.best["miou"]:
            return False
        self._best_before = self.best
        self.best = {"step": run.step, "miou": miou}
        return True

    def _told(self, run: Run) -> dict[str, ScoreDriven]:
        """What is told every evaluation's mIoU, by its name in checkpoints."""
        candidates = {"schedule": run.factor, "patience": self.patience}
        return {name: one for name, one in candidates.items() if isinstance(one, ScoreDriven)}

    def _end_early(self, run: Run) -> None:
        if self.patience is not None and self.patience.has_run_out:
            run.steps = run.step

    def _save(self, run: Run, is_best: bool, *, needed: bool) -> None:
        """Write a checkpoint; a failure is a warning, unless it is `needed`.

        Raises:
            StorageError: it is needed and cannot be written.
            DivergedError: a number in it is NaN.
        """
        rng = {"cpu": torch.get_rng_state()}
        if run.precision.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state()
        state = {
            "format": 1,
            "network": self.network,
            "step": run.step,
            "student": distributed.bare(run.student).state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "rng": distributed.gathered(rng),
            "seconds": self.spent(),
            "best": self.best,
            "told": {name: one.state_dict() for name, one in self._told(run).items()},
            "pending": self.pending,
            "not_finite": self.guard.count,
            "save_seconds": self.save_seconds,
        }
        spoilt = [name for name in ("student", "optimizer", "ema") if _has_nan(state[name])]
        if spoilt:
            raise DivergedError(
                f"step {run.step}: the {' and the '.join(spoilt)} holds NaN and is not saved; "
                f"the last checkpoint is good; {ADVICE}"
            )
        began = time.monotonic()
        try:
            distributed.first(lambda: self.checkpoints.save(state, step=run.step, best=is_best))
        except StorageError as error:
            if needed:
                raise
            if is_best:
                self.best = self._best_before
            warnings.warn(f"{error}; the next save tries again", stacklevel=2)
        self.save_seconds = time.monotonic() - began


def _has_nan(state: Any) -> bool:
    if isinstance(state, Tensor):
        return state.is_floating_point() and bool(state.isnan().any())
    values = state.values() if isinstance(state, Mapping) else state if isinstance(state, (list, tuple)) else ()
    return any(_has_nan(value) for value in values)


def load_best(checkpoints: Checkpoints) -> dict[str, Any]:
    """The state of the best checkpoint.

    Raises:
        StorageError: there is none, or it is damaged.
    """
    path: Path | None = checkpoints.best()
    if path is None:
        raise StorageError(f"{checkpoints.folder}: the best checkpoint is gone; use --fresh, or select: last")
    return read_checkpoint(path)
