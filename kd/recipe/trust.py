"""The components that a recipe may name without `--trust`: decided by their text, before anything is imported."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import reduce
from operator import getitem
from typing import Any

from kd.errors import MAX_WORD, Mistake, Path_, Position, shorten

TRUSTED = (
    "kd.losses", "kd.adapters", "kd.data", "kd.metrics", "kd.schedules", "teachers", "students", "torch.optim"
)  # fmt: skip


def is_component(text: str) -> bool:
    """Whether `text` has the form `package.module.Name` or `file.py:Name`."""
    file, colon, name = text.rpartition(":")
    if colon:
        return file.endswith(".py") and name.isidentifier() and text.isprintable()
    return "." in text and all(part.isidentifier() for part in text.split("."))


def is_trusted(component: str) -> bool:
    """Whether a component is a public name directly under a module of `TRUSTED`."""
    module, _, name = component.rpartition(".")
    return module in TRUSTED and name.isidentifier() and not name.startswith("_")


def nearly_trusted(text: str) -> str:
    """`did you mean '…'?` if a component resembles a trusted one; else an empty text."""
    module, _, name = text.rpartition(".")
    if ":" in text or not name.isidentifier() or name.startswith("_") or not module or len(module) > MAX_WORD:
        return ""
    related = [trusted for trusted in TRUSTED if module.startswith(f"{trusted}.") or trusted.endswith(f".{module}")]
    near = related or get_close_matches(module, TRUSTED, n=1, cutoff=0.75)
    return f"did you mean '{near[0]}.{shorten(name)}'?" if near else ""


def untrusted(data: Any, positions: Mapping[Path_, Position], fix: str) -> list[Mistake]:
    """One mistake that lists all components outside `TRUSTED` in a recipe's plain data, if there are any.

    Args:
        data: the recipe, not yet checked.
        positions: of every key in it.
        fix: what to do if the recipe is trusted.
    """
    named = {path: reduce(getitem, path, data) for path in positions if path[-1:] == ("use",)}
    foreign = {
        path: text
        for path, text in named.items()
        if isinstance(text, str) and is_component(text) and not is_trusted(text)
    }
    if not foreign:
        return []
    hints = {text: nearly_trusted(text) for text in foreign.values()}
    listed = ", ".join(f"'{shorten(text)}'" + (f" ({hint})" if hint else "") for text, hint in hints.items())
    first = next(iter(foreign))
    are = "is" if len(hints) == 1 else "are"
    what = f"{listed} would be imported, but {are} not part of kd; {fix}"
    return [Mistake(positions[first], first, what)]
