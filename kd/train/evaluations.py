"""The evaluations of a run: when one is due, which was the best, whether patience has run out."""

from typing import Any

from kd.metrics import scores
from kd.parts.assemble import Parts
from kd.runs import SplitResult
from kd.schedules import Patience, Told
from kd.train.evaluation import evaluation
from kd.train.panels import pictures
from kd.train.signals import Stop
from kd.train.sinks.progress import Progress
from kd.train.step import TrainState


class Evaluations:
    """Scores the networks of a run on the validation split, and remembers how that went.

    Args:
        parts: of the run; None: nothing is evaluated.
        progress: where scores and pictures go.
        every: steps between two evaluations; the last step is evaluated too; 0: only that one.
        patience: evaluations without a better mIoU that end the run; None: none do.
        stop: whether a signal has come.

    Attributes:
        best: step and mIoU of the best evaluation so far.
        latest: step and score of the newest one.
        pending: whether the evaluation of the step just made is still to come, because a signal came first.
    """

    def __init__(
        self,
        parts: Parts | None = None,
        *,
        progress: Progress | None = None,
        every: int = 0,
        patience: int | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._parts, self._progress, self._every = parts, progress or Progress({}), every
        self._patience = Patience(patience) if patience else None
        self._stop = stop or Stop()
        self.best: dict[str, float] | None = None
        self.latest: tuple[int, SplitResult] | None = None
        self.pending = False
        self._best_before: dict[str, float] | None = None

    @property
    def ended_early(self) -> bool:
        """Whether patience has run out."""
        return self._patience is not None and self._patience.has_run_out

    def is_due(self, run: TrainState) -> bool:
        """Whether the step just made is to be evaluated."""
        due = run.step == run.steps or (self._every > 0 and run.step % self._every == 0)
        return due and self._parts is not None

    def evaluate(self, run: TrainState) -> bool:
        """Score the networks as they are; whether this is the best evaluation so far.

        Raises:
            StoppedError: a signal came; the evaluation stays pending.
        """
        assert self._parts is not None
        results = evaluation(self._parts, self._stop)
        self.latest = (run.step, results["val"])
        values: dict[str, float] = {}
        for name, result in results.items():
            found = scores(result.confusion)
            values |= {f"{name}/miou": found.miou, f"{name}/pixel_accuracy": found.pixel_accuracy}
        self._progress.scalars(run.step, values)
        parts, shown = self._parts, results["val"]
        self._progress.pictures(run.step, lambda: pictures(parts, shown, "val"))
        self.pending = False
        miou = values["val/miou"]
        for listener in self._told(run).values():
            listener.tell(miou)
        if self.best is not None and miou <= self.best["miou"]:
            return False
        self._best_before, self.best = self.best, {"step": run.step, "miou": miou}
        return True

    def forget_best(self) -> None:
        """The best evaluation's checkpoint could not be written: the best one is the one before."""
        self.best = self._best_before

    def state_dict(self, run: TrainState) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        told = {name: listener.state_dict() for name, listener in self._told(run).items()}
        return {"best": self.best, "pending": self.pending, "told": told}

    def load_state_dict(self, run: TrainState, state: dict[str, Any]) -> None:
        """Put a checkpoint's state back."""
        for name, listener in self._told(run).items():
            listener.load_state_dict(state["told"][name])
        self.best, self.pending = state["best"], state["pending"]

    def _told(self, run: TrainState) -> dict[str, Told]:
        """What depends on every evaluation's mIoU, by its name in checkpoints."""
        candidates = {"schedule": run.phases.factor, "patience": self._patience}
        return {name: listener for name, listener in candidates.items() if isinstance(listener, Told)}
