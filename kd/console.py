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
