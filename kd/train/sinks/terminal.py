"""The terminal: one live line, or plain lines when piped."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kd.console import fitted
from kd.errors import one_line
from kd.units import duration

SCORES = {"val/miou": "val mIoU", "agreement/miou": "val agreement with the teacher"}  # the line shows the first it has


class Terminal:
    """One live line on a terminal, plain lines about every ten seconds when piped.

    Args:
        title: the start of each line.
        steps: the length of the run.
        start: the step at which it starts or resumes.
        console: where to write.
    """

    def __init__(self, title: str, steps: int, start: int = 0, console: Console | None = None) -> None:
        self._title, self._steps, self._start = title, steps, start
        self._console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._began = self._printed = time.monotonic()
        self._latest: dict[str, float] = {}
        if self._live:
            self._live.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._latest |= values
        evaluated = any(name in values for name in SCORES)
        if self._live:
            self._live.update(self._fitted(step))
        elif evaluated or time.monotonic() - self._printed >= 10:  # the last step is evaluated
            self._printed = time.monotonic()
            line = one_line(" · ".join([f"{self._title} {self._count(step)}", *self._numbers(step), *self._losses()]))
            print(line, file=self._console.file, flush=True)  # rich would exit when the pipe is closed

    def close(self) -> None:
        if self._live:
            self._live.stop()

    def _fitted(self, step: int) -> Text:
        """The line as wide as the terminal: losses are left out and the title is cut before a score or the time is."""
        width, parts = self._console.width, [self._count(step), *self._numbers(step)]
        for loss in self._losses():
            if len(" · ".join([f"{self._title} {parts[0]}", *parts[1:], loss])) > width:
                break
            parts.append(loss)
        return fitted(self._title, f" {' · '.join(parts)}", width)

    def _count(self, step: int) -> str:
        return f"{step}/{self._steps}"

    def _numbers(self, step: int) -> list[str]:
        """The score, the speed and the time that is left."""
        spent = time.monotonic() - self._began
        left = spent / max(step - self._start, 1) * (self._steps - step)
        numbers = [f"{SCORES[name]} {100 * self._latest[name]:.1f} %" for name in SCORES if name in self._latest][:1]
        if "speed/images_per_second" in self._latest:
            numbers.append(f"{self._latest['speed/images_per_second']:.3g} images/s")
        return [*numbers, f"{duration(left)} left"]

    def _losses(self) -> list[str]:
        losses = {name: value for name, value in self._latest.items() if name.startswith("loss/")}
        return [f"{name.removeprefix('loss/')} {value:.3f}" for name, value in losses.items()]
