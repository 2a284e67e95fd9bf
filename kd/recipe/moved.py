"""Recipes of versions 0.1 and 0.2: old names are read with a warning, and runs are found by their old ids."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any

from kd.errors import Path_, Position
from kd.recipe.identity import Scope, plain
from kd.recipe.section import Section
from kd.recipe.sources import Sources

MODULES = {"kd.engine.schedule": "kd.schedules"}  # of components: then -> now
CONVENTIONS = {"house": "default"}  # of the losses below: then -> now
RENAMED = ("kd.losses.DSD", "kd.losses.ICKD", "kd.losses.IFVD")


def update(data: Any, positions: Mapping[Path_, Position], *, warn: bool) -> None:
    """Replace the names of version 0.1.0 in a recipe's plain data; one warning per file lists them.

    Args:
        data: the recipe, not yet checked; changed in place.
        positions: of every key in it.
        warn: whether to warn.
    """
    replaced: dict[str, Position] = {}
    for path in positions:
        if path[-1:] != ("use",):
            continue
        section = reduce(getitem, path[:-1], data)
        renamed = _renamed(section, MODULES, CONVENTIONS)
        if renamed == section:
            continue
        if renamed["use"] != section["use"]:
            text = f"{section['use']} is now {renamed['use']}"
        else:
            text = f"convention {section['args']['convention']} is now {renamed['args']['convention']}"
        replaced.setdefault(text, positions[path])
        section.update(renamed)
    if replaced and warn:
        first = next(iter(replaced.values()))
        warnings.warn(f"{first}: {', '.join(replaced)}; update the recipe", stacklevel=2)


def old_identity(recipe: Section, sources: Sources, teacher_id: str | None) -> str:
    """The id that versions 0.1 and 0.2 gave to a recipe: without the order of mappings and the content of most files.

    Args:
        recipe: checked in shape.
        sources: the files that it names.
        teacher_id: the old id of its teacher's recipe; None without one.
    """

    def component(text: str) -> str:
        file, colon, name = text.rpartition(":")
        code = sources.code.get(file) if colon else None
        return text if code is None else f"{hashlib.sha256(code.modules[code.file.name]).hexdigest()}:{name}"

    tree = plain(recipe, component, defaults=False, without=Scope)
    if teacher_id is not None:
        tree["teacher"] |= {"recipe": teacher_id}
    return hashlib.sha256(json.dumps(_with_text_keys(first_names(tree)), sort_keys=True).encode()).hexdigest()[:8]


def _with_text_keys(value: Any) -> Any:
    """`value` with text keys only, so that JSON can sort them."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else f"!{k!r}": _with_text_keys(v) for k, v in value.items()}
    return [_with_text_keys(v) for v in value] if isinstance(value, list) else value


def first_names(tree: Any) -> Any:
    """A recipe's plain data with the names of version 0.1.0, which its ids were computed from."""
    if isinstance(tree, dict):
        section = {key: first_names(value) for key, value in tree.items()}
        modules, conventions = ({new: old for old, new in names.items()} for names in (MODULES, CONVENTIONS))
        return _renamed(section, modules, conventions)
    return [first_names(value) for value in tree] if isinstance(tree, list) else tree


def _renamed(section: Any, modules: Mapping[str, str], conventions: Mapping[str, str]) -> Any:
    """A section that names a component, under other names; any other value as it is."""
    use = section.get("use")
    if not isinstance(use, str):
        return section
    module, _, name = use.rpartition(".")
    renamed = section | {"use": f"{modules[module]}.{name}"} if module in modules else dict(section)
    args = section.get("args")
    convention = args.get("convention") if isinstance(args, dict) else None
    if use in RENAMED and isinstance(convention, str) and convention in conventions:
        renamed["args"] = args | {"convention": conventions[convention]}
    return renamed
