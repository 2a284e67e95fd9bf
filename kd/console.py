"""Standard output: how wide it is, and how lines and tables are printed."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console

Say = Callable[[str], None]  # takes a line for the user

PIPED_WIDTH = 140  # columns of a table where there is no terminal


def stdout() -> Console:
    """Standard output: as wide as its terminal, or 140 columns when piped."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def print_lines(header: Sequence[str], rows: Iterable[Sequence[str]], *, whole: int) -> None:
    """Print a table with one line a row; a terminal's width is shared by the columns after the first ones.

    Args:
        header: the columns' titles.
        rows: of plain text.
        whole: number of columns that are never cut.
    """
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    console = stdout()
    room = console.width - sum(widths[:whole]) - 2 * (len(widths) - 1)
    needed = sum(widths[whole:])
    if console.is_terminal and needed > room:
        widths[whole:] = [max(8, room * width // needed) for width in widths[whole:]]
    for line in lines:
        cells = (
            cell if len(cell) <= width else f"{cell[: width - 1]}…" for cell, width in zip(line, widths, strict=True)
        )
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def say(line: str) -> None:
    """Print a line now. Once nobody reads standard output, as after `kd run … | head`, a run continues without it."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try again when it ends
