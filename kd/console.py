"""Everything that kd prints goes through these functions.

Names of classes, files and runs, and the text of JSON files and checkpoints, may be a stranger's: control characters in
them are shown as escapes, and a line break in a value does not break the line.
"""

import os
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from kd.errors import one_line

if TYPE_CHECKING:  # rich is imported when it is needed: a command's help waits for nothing
    from rich.console import Console
    from rich.table import Table

Say = Callable[[str], None]  # takes a line for the user

PIPED_WIDTH = 140  # columns of a table where there is no terminal


def stdout() -> "Console":
    """Standard output: as wide as its terminal, or 140 columns when piped."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def print_line(line: str = "", *, style: str = "", wrap: bool = False, console: "Console | None" = None) -> None:
    """Print one line.

    Args:
        line: plain text; whatever it holds, it stays one line.
        style: of the text on a terminal, such as "bold".
        wrap: break it between words at the width of the console; a line that is to be copied must stay whole.
        console: where to print; None for standard output.
    """
    if console is None:
        print(one_line(line), flush=True)
        return
    from rich.text import Text

    console.print(Text(one_line(line), style=style), soft_wrap=not wrap)


def print_text(text: str, *, console: "Console | None" = None) -> None:
    """Print text of several lines, each as `print_line` does."""
    for line in text.split("\n"):
        print_line(line, console=console)


def print_errors(lines: Iterable[str]) -> None:
    """Print lines to standard error; a run and its exit status do not depend on whether it is open."""
    with suppress(OSError):
        for line in lines:
            print(one_line(line), file=sys.stderr)


def say(line: str) -> None:
    """Print a line now. Once nobody reads standard output, as after `kd run … | head`, a run continues without it."""
    try:
        print(one_line(line), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try again when it ends


def make_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, title: str | None = None
) -> "Table":
    """Text as a table for `Console.print`; the first `left` columns are words, the others numbers."""
    from rich.table import Table
    from rich.text import Text

    shown = None if title is None else Text(one_line(title))
    table = Table(box=None, pad_edge=False, title=shown, title_justify="left", title_style="bold", header_style="bold")
    for index, name in enumerate(header):
        table.add_column(Text(one_line(name)), justify="left" if index < left else "right", no_wrap=index >= left)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def print_lines(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, whole: int, numbers: Container[str] = ()
) -> None:
    """Print a table with one line a row; a terminal's width is shared by the columns after the first ones.

    Args:
        header: the columns' titles.
        rows: of plain text.
        whole: number of columns that are never cut.
        numbers: the titles of the columns that end at their right edge.
    """
    lines = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    console = stdout()
    room = console.width - sum(widths[:whole]) - 2 * (len(widths) - 1)
    needed = sum(widths[whole:])
    if console.is_terminal and needed > room:
        widths[whole:] = [max(8, room * width // needed) for width in widths[whole:]]
    pads = [str.rjust if name in numbers else str.ljust for name in header]
    for line in lines:
        cells = (
            cell if len(cell) <= width else f"{cell[: width - 1]}…" for cell, width in zip(line, widths, strict=True)
        )
        padded = (pad(cell, width) for pad, cell, width in zip(pads, cells, widths, strict=True))
        print("  ".join(padded).rstrip())


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A line with how many of `total` are done: a live one on a terminal, else one about every ten seconds.

    Yields:
        A function that takes the number that are done.
    """
    from rich.live import Live
    from rich.text import Text

    console, began = stdout(), time.monotonic()
    printed = began
    live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def advance(done: int) -> None:
        nonlocal printed
        now = time.monotonic()
        line = f"{title} {done}/{total} · {done / max(now - began, 1e-9):.3g} images/s"
        if live:
            live.update(Text(line, no_wrap=True, overflow="ellipsis"))
        elif now - printed >= 10:
            printed = now
            say(line)

    with live or nullcontext():
        yield advance
