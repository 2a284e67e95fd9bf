"""`path=value` overrides put into the node tree of a recipe."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from kd.errors import Mistake, Position, RecipeError, did_you_mean, dotted, fail, shell_word, shorten
from kd.recipe import yaml12
from kd.recipe.identity import plain
from kd.recipe.section import fields_at


def listed(overrides: Iterable[str]) -> tuple[str, ...]:
    """Overrides as a tuple.

    Raises:
        RecipeError: they are one text, which would be read letter by letter.
    """
    if isinstance(overrides, str):
        raise RecipeError(f"overrides: must be a list of texts, got one; write [{overrides!r}]")
    return tuple(overrides)


def refuse_idle(overrides: Iterable[str], recipes: int, others: Iterable[object] = ()) -> None:
    """Refuse overrides that change nothing.

    Args:
        overrides: `path=value` texts.
        recipes: the number of recipes that are read with them.
        others: what is named besides: run directories, which are what they are.

    Raises:
        RecipeError: there are overrides, and no recipe is read.
    """
    named = ", ".join(map(str, others))
    reason = f"{named} is no recipe but a run directory" if named else "no recipe is named"
    if not recipes:
        fail(
            Mistake(Position(f"<{text}>"), (), f"it changes nothing: {reason}; name a recipe, or remove it")
            for text in overrides
        )


def override(root: yaml.MappingNode, text: str, model: type[BaseModel]) -> list[Mistake]:
    """Put `path=value` into the tree; the value is checked later, with the rest of the recipe.

    `null` removes a key or list item; inside `args` it is a value.

    Returns:
        The mistake in the override itself, if there is one.
    """
    position = Position(f"<{text}>")
    name, sign, value = text.partition("=")
    keys = name.split(".")
    if not sign or not all(keys) or len(keys) > yaml12.MAX_DEPTH:
        return [Mistake(position, (), "an override is written path=value, such as train.batch_size=8")]
    mark = yaml.Mark(str(position), 0, 0, 0, None, 0)
    node: yaml.Node = root
    try:
        new = yaml12.compose(value, str(position)) or yaml.ScalarNode("tag:yaml.org,2002:null", "", mark, mark)
        for depth, key in enumerate(keys[:-1]):
            node = _enter(node, key, keys[:depth], model, mark)
        _put(node, keys, new, model, mark)
    except ValueError as error:
        return [Mistake(position, (), str(error).removeprefix(f"{position}: "))]
    return []


def _enter(node: yaml.Node, key: str, path: list[str], model: type[BaseModel], mark: yaml.Mark) -> yaml.Node:
    """The node at `key`; a key that the schema knows but the file does not have is added with its default."""
    fields = fields_at(model, path)
    index = _index(node, key, path, fields)
    if isinstance(node, yaml.SequenceNode):
        item: yaml.Node = node.value[index]
        return item
    for _, value in node.value[index : index + 1]:
        if not _is_null(value):
            given: yaml.Node = value
            return given
    default = fields[key].default if key in fields else None
    content: Any = default.model_dump() if isinstance(default, BaseModel) else {}
    if isinstance(default, tuple):
        content = list(default)
    new = yaml12.compose(yaml12.dump(content), mark.name)
    assert new is not None
    node.value[index : index + 1] = [(_key(key, mark), new)]
    return new


def _put(node: yaml.Node, keys: list[str], new: yaml.Node, model: type[BaseModel], mark: yaml.Mark) -> None:
    """Put `new` at the last of `keys`, or remove the node there if `new` is null."""
    *path, key = keys
    fields = fields_at(model, path)
    remove = _is_null(new) and "args" not in path
    index = _index(node, key, path, fields, new=not remove)
    if remove:
        del node.value[index : index + 1]
    elif isinstance(node, yaml.SequenceNode):
        node.value[index] = new
    else:
        node.value[index : index + 1] = [(_key(key, mark, "int" if key.isdecimal() and not fields else "str"), new)]


def _index(node: yaml.Node, key: str, path: list[str], fields: Mapping[str, Any], new: bool = False) -> int:
    """The index of `key` in a list or mapping; the length of the mapping for a key that is to be added.

    Args:
        node: the list or mapping.
        key: the key or index, as written in the override.
        path: of the node.
        fields: the fields of the section, from the schema.
        new: whether an unknown key may be added.

    Raises:
        ValueError: there is no such key.
    """
    if isinstance(node, yaml.SequenceNode):
        if key.isdecimal() and int(key[:9]) < len(node.value):
            return int(key[:9])
        raise ValueError(f"{dotted(path)} has no item '{shorten(key)}'; it has {len(node.value)}, counted from 0")
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{dotted(path)} is a single value and has no '{shorten(key)}'")
    given = [str(known.value) if isinstance(known, yaml.ScalarNode) else "" for known, _ in node.value]
    if key in given:
        return given.index(key)
    if new or key in fields:
        return len(given)
    section = f" in {dotted(path)}" if path else ""
    raise ValueError(f"no '{shorten(key)}'{section}{did_you_mean(key, {*given, *fields} - {''})}")


def _key(key: str, mark: yaml.Mark, kind: str = "str") -> yaml.ScalarNode:
    return yaml.ScalarNode(f"tag:yaml.org,2002:{kind}", key, mark, mark)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")


def as_override(path: str, value: Any) -> str:
    """`path=value` as a command line has it.

    Args:
        path: of a key in a recipe.
        value: plain data, or a section of a recipe, at any depth.
    """
    return shell_word(f"{path}={yaml12.in_flow(plain(value, defaults=False))}")
