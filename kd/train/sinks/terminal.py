"""The terminal: one live line, or plain lines when piped."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.text import Text

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
        line = one_line(self._line(step))
        if self._live:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
        elif evaluated or time.monotonic() - self._printed >= 10:  # the last step is evaluated
            self._printed = time.monotonic()
            print(line, file=self._console.file, flush=True)  # rich would exit when the pipe is closed

    def close(self) -> None:
        if self._live:
            self._live.stop()

    def _line(self, step: int) -> str:
        spent = time.monotonic() - self._began
        left = spent / max(step - self._start, 1) * (self._steps - step)
        parts = [f"{self._title} {step}/{self._steps}"]
        losses = {name: value for name, value in self._latest.items() if name.startswith("loss/")}
        parts += [f"{name.removeprefix('loss/')} {value:.3f}" for name, value in losses.items()]
        for name in [name for name in SCORES if name in self._latest][:1]:
            parts.append(f"{SCORES[name]} {100 * self._latest[name]:.1f} %")
        if "speed/images_per_second" in self._latest:
            parts.append(f"{self._latest['speed/images_per_second']:.3g} images/s")
        return " · ".join([*parts, f"{duration(left)} left"])
