"""What is wrong with a recipe and where it stands: one line a mistake, all of a file's at once."""

import reprlib
import traceback
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

MAX_WORD, MAX_MISTAKES = 64, 50

Path_ = tuple[str | int, ...]


class RecipeError(ValueError):
    """Everything wrong with one recipe.

    Args:
        mistakes: one line each, usually `file:line:column: path: what; did you mean …`.
    """

    def __init__(self, mistakes: str | Iterable[str]) -> None:
        self.mistakes = [one_line(m) for m in ([mistakes] if isinstance(mistakes, str) else mistakes)]
        super().__init__(self.mistakes)

    def __str__(self) -> str:
        return "\n".join(self.mistakes)


class Position(NamedTuple):
    """Where something stands: in a file (line and column from 1), or, with line 0, in an override."""

    name: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


class Mistake(NamedTuple):
    """One thing wrong, and where."""

    position: Position
    path: Path_
    what: str

    def __str__(self) -> str:
        return f"{self.position}: {dotted(self.path)}: {self.what}" if self.path else f"{self.position}: {self.what}"


def fail(mistakes: Iterable[Mistake]) -> None:
    """Raise one RecipeError with all `mistakes` in the file's order; nothing if there are none."""
    lines = list(dict.fromkeys(str(m) for m in sorted(mistakes, key=lambda m: (m.position.line == 0, m.position[1:]))))
    if len(lines) > MAX_MISTAKES:
        lines[MAX_MISTAKES:] = [f"… and {len(lines) - MAX_MISTAKES} more"]
    if lines:
        raise RecipeError(lines)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The closest known word as a question, or, when none is close, all known words; starts with `; `."""
    words = sorted(map(str, known))
    lower = {w.lower(): w for w in words}
    close = get_close_matches(word.lower(), lower, n=1) if len(word) <= MAX_WORD else []
    if close:
        return f"; did you mean '{lower[close[0]]}'?"
    return f"; known: {', '.join(words)}" if words else ""


def one_line(text: str) -> str:
    """`text` with line breaks and control characters written out, so that a message is a line and only shows."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def dotted(path: Sequence[str | int]) -> str:
    """A path as an override writes it."""
    return ".".join(shorten(str(key)) for key in path)


def raised(error: BaseException) -> str:
    """An exception of a user's code in one line, with the deepest place that is no library's."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    place = f"({Path(theirs[-1].filename).name}:{theirs[-1].lineno})"
    return f"{': '.join(filter(None, [type(error).__name__, ' '.join(str(error).split())]))} {place}"


def shorten(text: str) -> str:
    """At most `MAX_WORD` characters of `text`."""
    return text if len(text) <= MAX_WORD else text[: MAX_WORD - 1] + "…"


def shown(value: Any) -> str:
    """A value as a message shows it: YAML's words, bounded length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, (dict, list, tuple)) for item in value):
            return "a list"
        return f"[{', '.join(map(shown, value[:6]))}{', …' if len(value) > 6 else ''}]"
    return reprlib.repr(value)


def nearest(positions: Mapping[Path_, Position], path: Path_, otherwise: str = "recipe") -> Position:
    """The position of `path`, or of the nearest thing around it."""
    while path and path not in positions:
        path = path[:-1]
    return positions.get(path, Position(otherwise))
