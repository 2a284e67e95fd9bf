"""Everything that kd prints goes through these functions.

Names of classes, files and runs, and the text of JSON files and checkpoints, may be a stranger's: control characters in
them are shown as escapes, and a line break in a value does not break the line.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kd.errors import one_line
from kd.units import duration

if TYPE_CHECKING:  # rich is imported when it is needed: a command's help waits for nothing
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

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
        drop_output()


def flush_output(text: str = "") -> None:
    """Write what is printed so far, and `text`: a full disk is noticed here, not by Python when it ends."""
    if sys.stdout is not None:  # it may be closed
        sys.stdout.write(text)
        sys.stdout.flush()


def drop_output() -> None:
    """Print nothing more: what standard output has refused, Python would try to write again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_of_output(error: OSError) -> bool:
    """Whether standard output has raised an error: this module and rich write to nothing else."""
    file = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return file == Path(__file__) or "rich" in file.parts


def silent(line: str) -> None:
    """A `Say` that prints nothing."""


def print_blocks(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: int = 1,
    styles: Mapping[tuple[int, str], str] | None = None,
    console: "Console",
) -> None:
    """Print a table in as many blocks as the console's width asks for; each begins with the names of the rows.

    Args:
        header: the columns' titles; the first column has the names, which break between words where they are long.
        rows: of plain text.
        left: number of columns that hold words; the others hold numbers.
        styles: of a cell on a terminal, such as "green", by row and title.
        console: where to print.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    lines = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    names, known = min(widths[0], max(console.width // 3, 16)), styles or {}

    def block(line: Sequence[str], columns: range, row: int | None) -> Text:
        """The columns of a line as one text: a table of rich measures and wraps each of its cells, which is slow."""
        text = Text()
        for column in columns:
            text.append("  " * (column > columns[0]))
            pad = " " * (widths[column] - cell_len(line[column]) if len(columns) > 1 else 0)
            before, after = ("", pad) if column < left else (pad, "")
            text.append(before)
            text.append(line[column], None if row is None else known.get((row, header[column])))
            text.append(after)
        return text

    start = 1
    while start < len(header):
        stop, room = start + 1, console.width - names - 2 - widths[start]
        while stop < len(header) and (room := room - 2 - widths[stop]) >= 0:
            stop += 1
        if start > 1:
            console.print()
        table = Table(box=None, pad_edge=False, header_style="bold")
        columns = range(start, stop)
        table.add_column(Text(lines[0][0]), overflow="fold", width=names)
        title, numbers = block(lines[0], columns, None), start >= left
        side: Literal["left", "right"] = "right" if numbers and len(columns) == 1 else "left"  # it may not fit
        table.add_column(title, justify=side, no_wrap=numbers and len(columns) > 1, overflow="fold")
        for row, line in enumerate(lines[1:]):
            table.add_row(Text(line[0], known.get((row, header[0]), "")), block(line, columns, row))
        console.print(table)
        start = stop


def make_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int = 1,
) -> "Table":
    """Text as a table for `Console.print`; the first `left` columns are words, the others numbers.

    Args:
        header: the columns' titles.
        rows: of plain text.
        left: number of columns of words.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")  # a title would be folded to the table's width
    for index, name in enumerate(header):
        table.add_column(
            Text(one_line(name)),
            justify="left" if index < left else "right",
            no_wrap=index >= left,
            overflow="fold",
        )
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
    from rich.cells import cell_len, set_cell_size

    lines = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    console = stdout()
    room = console.width - sum(widths[:whole]) - 2 * (len(widths) - 1)
    needed = sum(widths[whole:])
    if console.is_terminal and needed > room:
        widths[whole:] = [max(8, room * width // needed) for width in widths[whole:]]

    def fitted_cell(cell: str, width: int, title: str) -> str:
        shown = cell if cell_len(cell) <= width else f"{set_cell_size(cell, width - 1)}…"
        pad = " " * (width - cell_len(shown))
        return pad + shown if title in numbers else shown + pad

    for line in lines:
        print("  ".join(map(fitted_cell, line, widths, header)).rstrip())


def fitted(title: str, numbers: str, width: int) -> "Text":
    """A live line of at most `width` columns: the title is cut before the numbers that follow it are."""
    from rich.text import Text

    title, numbers = one_line(title), one_line(numbers)
    room = max(width - len(numbers), 8)
    shown = title if len(title) <= room else f"{title[: room - 1]}…"
    return Text(shown + numbers, no_wrap=True, overflow="ellipsis")


@contextmanager
def progress(title: str, total: int, unit: str = "images", *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A line with how many of `total` are done: a live one on a terminal, else one about every ten seconds.

    Args:
        title: what is done.
        total: the number of all.
        unit: what is counted; "s": seconds, which have no speed.
        quiet: show nothing.

    Yields:
        A function that takes the number that are done.
    """
    if quiet:
        yield lambda done: None
        return
    from rich.live import Live

    console, began = stdout(), time.monotonic()
    printed = began
    live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
    every = 0.1 if live else 10.0  # seconds

    def advance(done: int) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed < every:
            return
        printed, spent = now, max(now - began, 1e-9)
        left = f" · {duration(spent / done * (total - done))} left" if done else ""
        speed = "" if unit == "s" else f" · {done / spent:.3g} {unit}/s"
        numbers = f" {done}/{total}{' s' if unit == 's' else ''}{speed}{left}"
        if live:
            live.update(fitted(title, numbers, console.width))
        else:
            say(f"{title}{numbers}")

    with live or nullcontext():
        yield advance
