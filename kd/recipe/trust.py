"""Which components a recipe may name without `--trust`: decided on the text, before anything is imported."""

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
    """Whether `text` is written `package.module.Name` or `file.py:Name`."""
    file, colon, name = text.rpartition(":")
    if colon:
        return file.endswith(".py") and name.isidentifier() and text.isprintable()
    return "." in text and all(part.isidentifier() for part in text.split("."))


def is_trusted(component: str) -> bool:
    """Whether a component is one public name directly under a module of `TRUSTED`."""
    module, _, name = component.rpartition(".")
    return module in TRUSTED and name.isidentifier() and not name.startswith("_")


def nearly_trusted(text: str) -> str:
    """`did you mean` where a component is nearly a trusted one; else nothing."""
    module, _, name = text.rpartition(".")
    if ":" in text or not name.isidentifier() or name.startswith("_") or not module or len(module) > MAX_WORD:
        return ""
    deeper = [t for t in TRUSTED if module.startswith(f"{t}.") or t.endswith(f".{module}")]
    near = deeper or get_close_matches(module, TRUSTED, n=1, cutoff=0.75)
    return f"did you mean '{near[0]}.{shorten(name)}'?" if near else ""


def untrusted(data: Any, positions: Mapping[Path_, Position], command: str) -> list[Mistake]:
    """One mistake that names all components of a recipe's plain data outside `TRUSTED`, if there are any.

    Args:
        data: the recipe, not yet checked.
        positions: of every key in it.
        command: what runs the recipe with `--trust`.
    """
    named = {path: reduce(getitem, path, data) for path in positions if path[-1:] == ("use",)}
    found = {path: t for path, t in named.items() if isinstance(t, str) and is_component(t) and not is_trusted(t)}
    if not found:
        return []
    hints = {text: nearly_trusted(text) for text in found.values()}
    listed = ", ".join(f"'{shorten(text)}'" + (f" ({hint})" if hint else "") for text, hint in hints.items())
    first = next(iter(found))
    what = f"{listed} would be imported, and is no part of kd; if you trust this recipe: {command}"
    return [Mistake(positions[first], first, what)]
