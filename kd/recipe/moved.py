"""Moved components: recipes of an earlier version are read, and find their finished runs."""

import warnings
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any

from kd.errors import Path_, Position

MOVED = {"kd.engine.schedule": "kd.schedules"}  # module in version 0.1.0 -> present module


def update(data: Any, positions: Mapping[Path_, Position], *, warn: bool) -> None:
    """Replace moved paths of components in a recipe's plain data; one warning per file lists them.

    Args:
        data: the recipe, not yet checked; changed in place.
        positions: of every key in it.
        warn: whether to warn.
    """
    replaced: dict[str, str] = {}
    first = positions[()]
    for path in positions:
        if path[-1:] != ("use",):
            continue
        section = reduce(getitem, path[:-1], data)
        old = section["use"]
        module, _, name = old.rpartition(".") if isinstance(old, str) else ("", "", "")
        if module in MOVED:
            section["use"] = f"{MOVED[module]}.{name}"
            replaced[old] = section["use"]
            first = positions[path] if len(replaced) == 1 else first
    if replaced and warn:
        listed = ", ".join(f"{old} is now {new}" for old, new in replaced.items())
        warnings.warn(f"{first}: {listed}; update the recipe", stacklevel=2)


def first_path(component: str) -> str:
    """The path of a component in version 0.1.0, from which ids are computed: moving a module must not change an id."""
    module, _, name = component.rpartition(".")
    old = next((old for old, new in MOVED.items() if new == module), module)
    return f"{old}.{name}" if name and module else component
