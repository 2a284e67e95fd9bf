"""Components that have moved: recipes of an earlier version are read, and find the runs that they made."""

import warnings
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any

from kd.errors import Path_, Position

MOVED = {"kd.engine.schedule": "kd.schedules"}  # module of version 0.1.0 -> module now


def update(data: Any, positions: Mapping[Path_, Position], *, warn: bool) -> None:
    """Give every component in a recipe's plain data its present path; one warning a file lists those that had another.

    Args:
        data: the recipe, not yet checked; changed in place.
        positions: of every key in it.
        warn: whether to warn.
    """
    found: dict[str, str] = {}
    first = positions[()]
    for path in positions:
        if path[-1:] != ("use",):
            continue
        section = reduce(getitem, path[:-1], data)
        old = section["use"]
        module, _, name = old.rpartition(".") if isinstance(old, str) else ("", "", "")
        if module in MOVED:
            section["use"] = f"{MOVED[module]}.{name}"
            found[old] = section["use"]
            first = positions[path] if len(found) == 1 else first
    if found and warn:
        listed = ", ".join(f"{old} is now {new}" for old, new in found.items())
        warnings.warn(f"{first}: {listed}; update the recipe", stacklevel=2)


def first_path(component: str) -> str:
    """The path that a component had when ids were first made: an id must not change because a file was moved."""
    module, _, name = component.rpartition(".")
    old = next((old for old, new in MOVED.items() if new == module), module)
    return f"{old}.{name}" if name and module else component
