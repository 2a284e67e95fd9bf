"""Where tables are printed."""

from rich.console import Console

PIPED_WIDTH = 140  # columns; without a terminal nothing says how wide a line may be


def stdout() -> Console:
    """Standard output: as wide as its terminal, or 140 columns when piped."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH)
