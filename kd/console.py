"""Where tables and lines are printed, and how long a time is in words."""

import os
import sys
from collections.abc import Callable

from rich.console import Console

Say = Callable[[str], None]  # takes a line for the user

PIPED_WIDTH = 140  # columns; without a terminal nothing says how wide a line may be


def stdout() -> Console:
    """Standard output: as wide as its terminal, or 140 columns when piped."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def say(line: str) -> None:
    """Print a line now. Where nobody reads it any more, as behind `kd run … | head`, what runs goes on unheard."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try again when it ends


def duration(seconds: float) -> str:
    """Seconds, >= 0, in the unit that reads best: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
