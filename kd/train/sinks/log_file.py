"""`log.txt`: everything that a run reports, with the time of each line; a resumed run appends."""

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kd.console import Say
from kd.errors import one_line


class LogFile:
    """The log of a run. A line that cannot be written is lost; training continues.

    Args:
        run_dir: the run directory, which exists.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "log.txt"

    def write(self, line: str) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {one_line(line.strip())}\n")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        scores = [
            f"{name} {value:.4f}" for name, value in values.items() if name.endswith(("/miou", "/pixel_accuracy"))
        ]
        if scores:
            self.write(f"step {step}: {', '.join(scores)}")

    def close(self) -> None:
        """Do nothing: every line is written immediately."""


@contextmanager
def logged(run_dir: Path, say: Say) -> Iterator[Say]:
    """Write the lines and warnings of the block to the log, in addition to `say` and the warnings' usual place."""
    log, show = LogFile(run_dir), warnings.showwarning
    failed = False

    def write(line: str) -> None:
        nonlocal failed
        try:
            log.write(line)
        except OSError as error:
            if not failed:
                failed = True
                warnings.warn(f"log.txt: not written ({error.strerror}); training continues", stacklevel=2)

    def say_and_write(line: str) -> None:
        say(line)
        write(line)

    def show_and_write(message: Warning | str, *arguments: Any, **options: Any) -> None:
        show(message, *arguments, **options)
        write(f"warning: {message}")

    warnings.showwarning = show_and_write
    try:
        yield say_and_write
    finally:
        warnings.showwarning = show
