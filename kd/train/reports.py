"""The numbers of a run's steps: losses, learning rates, speed, the gradients of the terms."""

import math
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from kd import distributed
from kd.parts.assemble import Parts
from kd.parts.gradients import figures, pulls
from kd.train.sinks.progress import Progress
from kd.train.step import TrainState
from kd.types import Batch


class Reports:
    """Passes the numbers of a step to the sinks, when a report is due.

    Args:
        progress: where numbers go.
        every: steps between two reports; the last step is always reported; 0: no reports.
        parts: of the run; needed for `gradients_every` only.
        gradients_every: steps between two reports on the terms' gradients; 0: no such reports.
        batch_size: images per step, for the speed.
    """

    def __init__(
        self,
        progress: Progress | None = None,
        *,
        every: int = 0,
        parts: Parts | None = None,
        gradients_every: int = 0,
        batch_size: int = 1,
    ) -> None:
        self.progress = progress or Progress({})
        self._every, self._gradients_every = every, gradients_every
        self._parts, self._batch_size = parts, batch_size
        self._speed_since: tuple[float, int] | None = None  # when and at which step the speed was last measured

    def write(self, run: TrainState, losses: Mapping[str, Tensor], batch: Batch, *, not_finite: int) -> None:
        """Report a step.

        Args:
            run: after the step.
            losses: the means of its micro-batches by name, and `gradient_norm`.
            batch: one of its micro-batches.
            not_finite: the number of steps so far that were left out.
        """
        if self._every and (run.step % self._every == 0 or run.step == run.steps):
            self.progress.scalars(run.step, self._values(run, losses, not_finite))
            self._speed_since = (time.monotonic(), run.step)
        if self._gradients_every and run.step % self._gradients_every == 0:
            assert self._parts is not None
            self.progress.scalars(run.step, figures(pulls(self._parts, batch)))
            self.pause()

    def pause(self) -> None:
        """Restart the measurement of the speed, after work that is not training."""
        self._speed_since = None

    def _values(self, run: TrainState, losses: Mapping[str, Tensor], not_finite: int) -> dict[str, float]:
        sums = distributed.summed(torch.stack([value.float() for value in losses.values()]).cpu())  # waits
        means = zip(losses, (sums / distributed.world()).tolist(), strict=True)
        values = {k if k == "gradient_norm" else f"loss/{k}": mean for k, mean in means if math.isfinite(mean)}
        if not_finite:
            values["not_finite"] = not_finite
        for index, group in enumerate(run.optimizer.param_groups):
            values["lr" if index == 0 else f"lr/{index}"] = group["lr"]
        if self._speed_since is not None:
            since, step = self._speed_since
            seconds = max(time.monotonic() - since, 1e-9)
            values["speed/images_per_second"] = (run.step - step) * self._batch_size / seconds
        return values
