"""A node tree against a pydantic model: overrides put in, and the model's errors in our words and at their place."""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from kd.errors import Mistake, Path_, Position, did_you_mean, dotted, nearest, shorten, shown
from kd.recipe import yaml12 as nodes
from kd.recipe.schema import Use

_SAY = {
    "int_type": "must be an integer, got {got}",
    "int_from_float": "must be an integer, got {got}",
    "float_type": "must be a number, got {got}",
    "bool_type": "must be true or false, got {got}",
    "string_type": "must be text, got {got}",
    "string_too_short": "must not be empty",
    "literal_error": "must be {expected}, got {got}",
    "greater_than_equal": "must be at least {ge}, got {got}",
    "greater_than": "must be above {gt}, got {got}",
    "less_than_equal": "must be at most {le}, got {got}",
    "less_than": "must be below {lt}, got {got}",
    "model_type": "must be a mapping, got {got}",
    "dict_type": "must be a mapping, got {got}",
    "tuple_type": "must be a list, got {got}",
    "too_short": "must have at least {min_length} item, got {actual_length}",
    "value_error": "{error}",
}


def explained(error: ValidationError, model: type[BaseModel], positions: Mapping[Path_, Position]) -> list[Mistake]:
    """A ValidationError's errors as mistakes, each once: a list with wrong items is not too short as well."""
    errors = error.errors(include_url=False)
    around = {one["loc"][:depth] for one in errors for depth in range(len(one["loc"]))}
    kept = (one for one in errors if not (one["type"] == "too_short" and one["loc"] in around))
    return [explain(one, model, positions) for one in kept]


def explain(error: Mapping[str, Any], model: type[BaseModel], positions: Mapping[Path_, Position]) -> Mistake:
    """One of a ValidationError's errors as a mistake."""
    path = tuple(key for key in error["loc"] if key != "[key]")
    kind, got = error["type"], error["input"]
    known = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in error.get("ctx", {}).items()}
    if kind == "missing":
        return Mistake(nearest(positions, path[:-1]), path[:-1], f"needs '{path[-1]}'")
    if kind in ("extra_forbidden", "invalid_key"):
        fields = fields_at(model, path[:-1]) or Use.model_fields
        return Mistake(nearest(positions, path), path, "unknown key" + did_you_mean(str(path[-1]), fields))
    what = _SAY[kind].format(got=shown(got), **known) if kind in _SAY else error["msg"]
    if kind == "literal_error" and isinstance(got, str):
        what += did_you_mean(
            got, [word for word in str(known["expected"]).split("'") if word.isidentifier() and word != "or"]
        )
    while path and path not in positions:  # a default is wrong only together with its neighbours: say it of them all
        path = path[:-1]
    return Mistake(nearest(positions, path), path, what)


def fields_at(model: type[BaseModel], path: Sequence[str | int]) -> Mapping[str, Any]:
    """The keys that the schema knows in the section at `path`; none where the keys are free (`distill`, `args`)."""
    kind: Any = model
    for key in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(key))
            kind = _core(field.annotation) if field else None
        else:  # a mapping of names or a list: its entries' kind is the last or the first of its arguments
            inner = get_args(kind)
            kind = _core(inner[1 if get_origin(kind) is dict else 0]) if inner else None
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def _core(kind: Any) -> Any:
    """An annotation without `Annotated` and `None`; of a union, the section in it."""
    if get_origin(kind) is Annotated:
        return _core(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        cores = [_core(inner) for inner in get_args(kind)]
        return next((core for core in cores if isinstance(core, type) and issubclass(core, BaseModel)), cores[0])
    return kind


def override(root: yaml.MappingNode, text: str, model: type[BaseModel]) -> list[Mistake]:
    """Put `path=value` into the tree; whether its value is right there is checked with everything else.

    `null` takes a key or list item out; inside `args` it is a value, for a component to judge.

    Returns:
        The mistake in the override itself, if there is one.
    """
    here = Position(f"<{text}>")
    name, sign, value = text.partition("=")
    keys = name.split(".")
    if not sign or not all(keys) or len(keys) > nodes.MAX_DEPTH:
        return [Mistake(here, (), "an override is written path=value, such as train.batch_size=8")]
    mark = yaml.Mark(str(here), 0, 0, 0, None, 0)
    node: yaml.Node = root
    try:
        new = nodes.compose(value, str(here)) or yaml.ScalarNode("tag:yaml.org,2002:null", "", mark, mark)
        for depth, key in enumerate(keys[:-1]):
            node = _enter(node, key, keys[:depth], model, mark)
        _put(node, keys, new, model, mark)
    except ValueError as error:
        return [Mistake(here, (), str(error).removeprefix(f"{here}: "))]
    return []


def _enter(node: yaml.Node, key: str, path: list[str], model: type[BaseModel], mark: yaml.Mark) -> yaml.Node:
    """The node at `key`; if the file does not give it and the schema knows it, its default is put there."""
    fields = fields_at(model, path)
    index = _index(node, key, path, fields)
    found: list[yaml.Node] = [node.value[index]] if isinstance(node, yaml.SequenceNode) else []
    found = found or [value for _, value in node.value[index : index + 1] if not _is_null(value)]
    if found:
        return found[0]
    default = fields[key].default if key in fields else None
    content = default.model_dump() if isinstance(default, BaseModel) else {}
    new = nodes.compose(nodes.dump(content), mark.name)
    assert new is not None
    node.value[index : index + 1] = [(_key(key, mark), new)]
    return new


def _put(node: yaml.Node, keys: list[str], new: yaml.Node, model: type[BaseModel], mark: yaml.Mark) -> None:
    """Put `new` at the last of `keys`, or take out what is there."""
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
    """The place of `key` in a list or mapping; behind its end for a key that may be added.

    Args:
        node: the list or mapping.
        key: the key or index, as the override writes it.
        path: the way to the node.
        fields: the keys that the schema knows here.
        new: whether a key that nobody knows may be added.

    Raises:
        ValueError: there is no such key.
    """
    if isinstance(node, yaml.SequenceNode):
        if key.isdecimal() and int(key[:9]) < len(node.value):
            return int(key[:9])
        raise ValueError(f"{dotted(path)} has {len(node.value)} items, counted from 0; there is no '{shorten(key)}'")
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{dotted(path)} is one value and has no '{shorten(key)}'")
    given = [str(k.value) if isinstance(k, yaml.ScalarNode) else "" for k, _ in node.value]
    if key in given:
        return given.index(key)
    if new or key in fields:
        return len(given)
    around = f" in {dotted(path)}" if path else ""
    raise ValueError(f"no '{shorten(key)}'{around}{did_you_mean(key, {*given, *fields} - {''})}")


def _key(key: str, mark: yaml.Mark, kind: str = "str") -> yaml.ScalarNode:
    return yaml.ScalarNode(f"tag:yaml.org,2002:{kind}", key, mark, mark)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")
