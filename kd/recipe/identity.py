"""Which recipes are the same: the scope of a key, recipes as plain data, and the id that names a recipe's runs.

The id is the beginning of the SHA-256 of a recipe's meaning: without defaults, seeds and machine settings, with the
order of mappings such as `classes`, and with the content of every file that it names instead of the file's place. It
includes a teacher's recipe as that recipe's id.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, TypeVar

from kd.recipe.section import Component, Section
from kd.recipe.sources import Sources

S = TypeVar("S", bound=Section)


class Scope(Enum):
    """What a key belongs to if not to the recipe's meaning; marks a field: `Annotated[Flag, Scope.MACHINE]`.

    Recipes that differ only in such keys have the same id. The class of a section marks arguments of its component in
    `machine_args`.
    """

    MACHINE = "machine"  # where a run is computed and shown; a student's recipe sets it for its teacher's
    RUN = "run"  # a single run of the recipe


class Named(Enum):
    """What the text of a key may name; marks a field, as `Scope` does. Arguments of components may name files too."""

    FILE = "file"  # weights: a file or a run directory, which counts by its content and not by its place


def plain(
    value: Any,
    component: Callable[[str], str] = str,
    file: Callable[[str], str] = str,
    *,
    defaults: bool = True,
    without: Iterable[Scope] = (),
    ordered: bool = False,
) -> Any:
    """A section, or a value in one, as plain data.

    Args:
        value: the section or value.
        component: replaces the path of each component.
        file: replaces each text that may name a file.
        defaults: whether values equal to their default are kept.
        without: the scopes whose keys are left out; `Scope` for all, which leaves the meaning.
        ordered: whether mappings whose order may mean something (`classes`) become lists of pairs; the keys of
            sections, the names of arguments and those of terms have no order.
    """
    scopes = frozenset(without)

    def section_of(section: Section) -> Any:
        tree: dict[str, Any] = {}
        for name, field in type(section).model_fields.items():
            if any(mark in scopes for mark in field.metadata if isinstance(mark, Scope)):
                continue
            item, is_args = getattr(section, name), name == "args"
            if is_args and isinstance(section, Component) and Scope.MACHINE in scopes:
                item = {key: argument for key, argument in item.items() if key not in section.machine_args}
            if not (defaults or field.is_required() or item != field.get_default(call_default_factory=True)):
                continue
            names_files = is_args or Named.FILE in field.metadata
            if name == "use" and item:
                tree[name] = component(item)
            elif isinstance(item, dict) and (is_args or any(isinstance(part, Section) for part in item.values())):
                tree[name] = {key: value_of(part, names_files) for key, part in item.items()}
            else:
                tree[name] = value_of(item, names_files)
        if ordered and len(tree) == 1 and Named.FILE in type(section).model_fields[min(tree)].metadata:
            return tree.popitem()[1]  # `{file: w.pt}` is `w.pt`
        return tree

    def value_of(value: Any, names_files: bool) -> Any:
        if isinstance(value, Section):
            return section_of(value)
        if isinstance(value, dict):
            items = {key: value_of(item, names_files) for key, item in value.items()}
            return [list(pair) for pair in items.items()] if ordered else items
        if isinstance(value, (list, tuple)):
            return [value_of(item, names_files) for item in value]
        return file(value) if names_files and isinstance(value, str) else value

    return value_of(value, False)


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


def named_files(section: Section) -> list[str]:
    """The texts in a section that may name a file: weights, and arguments of components at any depth.

    Not those of a place on this machine, such as the dataset's `root`: they count neither by name nor by content.
    """
    texts: list[str] = []

    def note(text: str) -> str:
        texts.append(text)
        return text

    plain(section, file=note, without=[Scope.MACHINE])
    return texts


def identity(recipe: Section, sources: Sources, teacher_id: str | None) -> str:
    """8 hex digits that name the runs of a recipe.

    Args:
        recipe: checked in shape.
        sources: the files that it names.
        teacher_id: the id of its teacher's recipe; None without one.
    """
    tree = plain(recipe, sources.component, sources.content, defaults=False, without=Scope, ordered=True)
    if tree["train"].get("accumulate") == "auto":  # as one micro-batch: more of them may not change what is computed
        del tree["train"]["accumulate"]
    if isinstance(teacher := tree.get("teacher"), dict) and {"size", "scale"} & teacher.keys():
        teacher |= {"sampled": "from the file"}  # kd 0.4 enlarged the student's image: those runs are others
    if teacher_id is not None:
        tree["teacher"] |= {"recipe": teacher_id}
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:8]
