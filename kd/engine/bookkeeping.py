"""What happens between the steps: reports, evaluations, checkpoints, stops."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd.engine.checkpoint import Checkpoints, NoCheckpointError
from kd.engine.progress import Progress
from kd.engine.stop import Stop, StoppedError
from kd.engine.train import Run
from kd.metrics import scores
from kd.runs import SplitResult, StorageError


@dataclass
class Bookkeeping:
    """Called after every step of a run.

    Attributes:
        checkpoints: where states go.
        progress: where numbers go.
        evaluate: scores the student as it is.
        report_every, evaluate_every, save_every: in steps; the last step does all three.
        batch_size: images a step, for the speed.
        stop: whether a signal has come.
        network: the student's network type: a checkpoint of another one is refused.
        seconds: spent in earlier sessions of this run.
        best: step and mIoU of the best evaluation so far.
        latest: the newest evaluation: (step, result).
    """

    checkpoints: Checkpoints
    progress: Progress
    evaluate: Callable[[], SplitResult]
    report_every: int
    evaluate_every: int
    save_every: int
    batch_size: int
    stop: Stop
    network: str
    seconds: float = 0.0
    best: dict[str, float] | None = None
    latest: tuple[int, SplitResult] | None = None
    began: float = field(default_factory=time.monotonic)
    _window: tuple[float, int] = (0.0, -1)  # when and at which step the speed was last measured

    def __call__(self, run: Run, losses: Mapping[str, Tensor]) -> None:
        last = run.step == run.steps
        if run.step % self.report_every == 0 or last:
            self._report(run, losses)
        is_best = False
        if run.step % self.evaluate_every == 0 or last:
            is_best = self._evaluate(run)
        if run.step % self.save_every == 0 or last or is_best or self.stop.signal is not None:
            self._save(run, is_best)
        if self.stop.signal is not None and not last:
            raise StoppedError(self.stop.signal)

    def spent(self) -> float:
        """Seconds of training, all sessions together."""
        return self.seconds + time.monotonic() - self.began

    def restore(self, run: Run, state: dict[str, Any]) -> None:
        """Put a checkpoint's state back into a run that starts at its step.

        Raises:
            NoCheckpointError: it is of another network.
        """
        if state["network"] != self.network:
            raise NoCheckpointError(
                f"{self.checkpoints.folder}: holds {state['network']}, the recipe says {self.network}; use --fresh"
            )
        try:
            run.student.load_state_dict(state["student"])
            run.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            first = " ".join(str(error).split())[:200]
            raise NoCheckpointError(
                f"{self.checkpoints.folder}: does not fit this recipe ({first}); use --fresh"
            ) from None
        torch.set_rng_state(state["rng"]["cpu"])
        if "cuda" in state["rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["rng"]["cuda"])
        self.seconds, self.best = state["seconds"], state["best"]

    def _report(self, run: Run, losses: Mapping[str, Tensor]) -> None:
        now = time.monotonic()
        before, step = self._window
        values = {f"loss/{name}": value.item() for name, value in losses.items() if name != "gradient_norm"}
        values["gradient_norm"] = losses["gradient_norm"].item()  # .item() waits for the device
        for index, group in enumerate(run.optimizer.param_groups):
            values["lr" if index == 0 else f"lr/{index}"] = group["lr"]
        if step >= 0:
            values["speed/images_per_second"] = (run.step - step) * self.batch_size / max(now - before, 1e-9)
        self._window = (now, run.step)
        self.progress.scalars(run.step, values)

    def _evaluate(self, run: Run) -> bool:
        """Whether this is the best evaluation so far."""
        result = self.evaluate()
        self.latest = (run.step, result)
        found = scores(torch.tensor(result.confusion))
        self.progress.scalars(run.step, {"val/miou": found.miou, "val/pixel_accuracy": found.pixel_accuracy})
        self._window = (0.0, -1)  # evaluation is no training time
        if self.best is not None and found.miou <= self.best["miou"]:
            return False
        self.best = {"step": run.step, "miou": found.miou}
        return True

    def _save(self, run: Run, is_best: bool) -> None:
        rng = {"cpu": torch.get_rng_state()}
        if run.precision.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state()
        state = {
            "format": 1,
            "network": self.network,
            "step": run.step,
            "student": run.student.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "rng": rng,
            "seconds": self.spent(),
            "best": self.best,
        }
        self.checkpoints.save(state, step=run.step, best=is_best)


def load_best(checkpoints: Checkpoints, student: nn.Module) -> None:
    """Put the best checkpoint's weights into the student.

    Raises:
        StorageError: there is none, or it is damaged.
    """
    from kd.engine.checkpoint import read_checkpoint

    path: Path | None = checkpoints.best()
    if path is None:
        raise StorageError(f"{checkpoints.folder}: the best checkpoint is gone; use --fresh, or select: last")
    student.load_state_dict(read_checkpoint(path)["student"])
