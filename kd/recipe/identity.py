"""Which recipes are the same: the scope of a key, recipes as plain data, and the id that names a recipe's runs.

The id is the beginning of the SHA-256 of a recipe without defaults, seeds and machine settings. It includes a teacher's
recipe as that recipe's id, and a component of `file.py` as the file's SHA-256.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, TypeVar

from kd.recipe.moved import first_names
from kd.recipe.section import Component, Section

S = TypeVar("S", bound=Section)


class Scope(Enum):
    """What a key belongs to if not to the recipe's meaning; marks a field: `Annotated[Flag, Scope.MACHINE]`.

    Recipes that differ only in such keys have the same id. The class of a section marks arguments of its component in
    `machine_args`.
    """

    MACHINE = "machine"  # where a run is computed and shown; a student's recipe sets it for its teacher's
    RUN = "run"  # a single run of the recipe


def plain(
    value: Any,
    component: Callable[[str], str] = str,
    *,
    defaults: bool = True,
    without: Iterable[Scope] = (),
) -> Any:
    """A section, or a value in one, as plain data.

    Args:
        value: the section or value.
        component: replaces the path of each component.
        defaults: whether values equal to their default are kept.
        without: the scopes whose keys are left out; `Scope` for all, which leaves the meaning.
    """
    scopes = frozenset(without)
    if isinstance(value, Section):
        tree = {}
        for name, field in type(value).model_fields.items():
            if any(mark in scopes for mark in field.metadata if isinstance(mark, Scope)):
                continue
            item = getattr(value, name)
            if name == "args" and isinstance(value, Component) and Scope.MACHINE in scopes:
                item = {key: argument for key, argument in item.items() if key not in value.machine_args}
            if defaults or field.is_required() or item != field.get_default(call_default_factory=True):
                is_path = name == "use" and item
                tree[name] = component(item) if is_path else plain(item, component, defaults=defaults, without=scopes)
        return tree
    if isinstance(value, dict):
        return {key: plain(item, component, defaults=defaults, without=scopes) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, component, defaults=defaults, without=scopes) for item in value]
    return value


def with_machine_settings(section: S, source: S) -> S:
    """`section` with the machine settings of `source`, in its subsections too, where both have them.

    Machine arguments are copied where both name the same component.
    """
    update: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value, source_value = getattr(section, name), getattr(source, name)
        if Scope.MACHINE in field.metadata:
            update[name] = source_value
        elif isinstance(value, Section) and type(value) is type(source_value):
            update[name] = with_machine_settings(value, source_value)
    if isinstance(section, Component) and isinstance(source, Component) and section.use == source.use:
        copied = {key: source.args[key] for key in section.machine_args if key in source.args}
        update |= {"args": section.args | copied} if copied else {}
    return section.model_copy(update=update)


def identity(recipe: Section, digests: Mapping[str, str], teacher_id: str | None) -> str:
    """8 hex digits that name the runs of a recipe.

    Args:
        recipe: checked in shape.
        digests: of each `file.py` that it names, as it names it, the SHA-256 in hex digits.
        teacher_id: the id of its teacher's recipe; None without one.
    """

    def component(text: str) -> str:
        file, colon, name = text.rpartition(":")
        return f"{digests.get(file, file)}:{name}" if colon else text

    tree = plain(recipe, component, defaults=False, without=Scope)
    if teacher_id is not None:
        tree["teacher"] = {"recipe": teacher_id}
    return hashlib.sha256(json.dumps(_canonical(first_names(tree)), sort_keys=True).encode()).hexdigest()[:8]


def _canonical(value: Any) -> Any:
    """`value` with text keys only, so that JSON can sort them."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else f"!{k!r}": _canonical(v) for k, v in value.items()}
    return [_canonical(v) for v in value] if isinstance(value, list) else value
