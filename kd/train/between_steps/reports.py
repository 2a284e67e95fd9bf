"""The numbers of a run's steps: losses, learning rates, speed, the gradients of the terms."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from kd import distributed
from kd.parts.assemble import Parts
from kd.parts.checks.gradients import Pull, figures, pulls
from kd.train.readback import StepNumbers
from kd.train.sinks.progress import Progress
from kd.types import Batch

Pulls = dict[str, Pull]


class Reports:
    """Passes the numbers of the steps to the sinks, when a report is due: losses as means since the last report.

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
        self._sums: dict[str, tuple[float, int]] = {}  # of each loss since the last report, with the number of steps
        self._speed_since: tuple[float, int] | None = None  # when and at which step the speed was last measured

    def measures_at(self, step: int) -> bool:
        """Whether the gradients of the terms are measured after a step."""
        return self._gradients_every > 0 and step % self._gradients_every == 0

    def add(self, numbers: StepNumbers) -> None:
        """Add the numbers of a step to the means of the next report; a step that is not finite is left out as a whole.

        Otherwise `loss/total` would be the mean over other steps, or other processes, than the losses that it sums up.
        """
        for name, value in numbers.means().items() if numbers.finite else ():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)

    def write(self, numbers: StepNumbers, *, last: bool, not_finite: int) -> None:
        """Report the steps since the last report, if a report is due.

        Args:
            numbers: of a step, which have been added; the step itself may have been made some steps ago.
            last: whether it is the last step of the run.
            not_finite: the number of steps so far that were left out.
        """
        if self._every > 0 and (numbers.step % self._every == 0 or last):
            self.progress.scalars(numbers.step, self._values(numbers, not_finite))
            self._sums.clear()
            self.restart(numbers.step)

    def write_gradients(self, step: int, batch: Batch, making_room: Callable[[Callable[[], Pulls]], Pulls]) -> None:
        """Report the gradients of the terms, if they are due.

        Args:
            step: the last one.
            batch: one of its micro-batches.
            making_room: runs what takes memory as a step does.
        """
        if self.measures_at(step):
            assert self._parts is not None
            self.progress.scalars(step, figures(making_room(partial(pulls, self._parts, batch))))
            self.restart(step)

    def restart(self, step: int) -> None:
        """Restart the measurement of the speed after step `step`, and work that is not training."""
        self._speed_since = (time.monotonic(), step)

    def state_dict(self) -> dict[str, Any]:
        """The state that a checkpoint keeps: the sums since the last report."""
        return dict(self._sums)

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Restore the sums of checkpoints; of several, where fewer processes resume than were stopped."""
        self._sums = {}
        for sums in states:
            for name, (total, count) in sums.items():
                before = self._sums.get(name, (0.0, 0))
                self._sums[name] = (before[0] + total, before[1] + count)

    def _values(self, numbers: StepNumbers, not_finite: int) -> dict[str, float]:
        names = tuple(numbers.means())
        sums = torch.tensor([self._sums.get(name, (0.0, 0)) for name in names], dtype=torch.float64)
        values = {}
        for name, (total, count) in zip(names, distributed.summed(sums).tolist(), strict=True):
            if count:
                mean = torch.tensor(total / count, dtype=torch.float32).item()  # no digits that a step does not have
                values[name if name == "gradient_norm" else f"loss/{name}"] = mean
        if not_finite:
            values["not_finite"] = not_finite
        for index, rate in enumerate(numbers.rates):
            values["lr" if index == 0 else f"lr/{index}"] = rate
        if self._speed_since is not None:
            since, step = self._speed_since
            seconds = max(time.monotonic() - since, 1e-9)
            values["speed/images_per_second"] = (numbers.step - step) * self._batch_size / seconds
        return values
