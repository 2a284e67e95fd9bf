"""YAML 1.2 text as plain data with the position of every key, guarded against hostile files.

A recipe may come from a stranger: size, depth and number of nodes are limited before anything is constructed, and tags,
anchors and aliases are refused. The pure-Python loader is used on purpose: the C loader crashes on deep nesting.
"""

import re
import reprlib
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from kd.errors import Mistake, Path_, Position, RecipeError
from kd.files import reading

MAX_DEPTH, MAX_EVENTS, MAX_SCALAR = 32, 20_000, 4_096


def read_text(file: Path, *, inside: Path | None = None) -> str:
    """Read a recipe file, as `kd.files.reading.read_text`.

    Raises:
        RecipeError: it is not such a file, or cannot be read.
    """
    return reading.read_text(file, "a recipe", RecipeError, inside=inside)


class _Loader(yaml.SafeLoader):
    """A guarded SafeLoader with the scalars of YAML 1.2: `1e-4` is a number; `on`, `no` and `1:30` are text."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name
        self._count = self._depth = 0

    def get_event(self) -> yaml.Event:
        """The next event, if it is allowed."""
        event: yaml.Event = super().get_event()  # type: ignore[no-untyped-call]
        self._count += 1
        self._depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        problem = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "anchors and aliases (& and *) are not allowed; write the value out"
        elif getattr(event, "tag", None) or getattr(event, "tags", None):
            problem = "tags (!) are not allowed; write plain values"
        elif self._depth > MAX_DEPTH:
            problem = f"nested deeper than {MAX_DEPTH} levels"
        elif self._count > MAX_EVENTS:
            problem = f"more than {MAX_EVENTS:,} YAML events; a recipe is a page of text"
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_SCALAR:
            problem = f"a value longer than {MAX_SCALAR:,} characters"
        elif isinstance(event, yaml.ScalarEvent) and any(map(_is_control, event.value)):
            problem = "a control character in a value; write plain text"
        if problem:
            raise RecipeError(f"{position(event.start_mark)}: {problem}")
        return event


def _is_control(char: str) -> bool:
    return char not in "\t\n" and unicodedata.category(char) in ("Cc", "Cs")


_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


class _Dumper(yaml.SafeDumper):
    """A SafeDumper that quotes text which `_Loader` would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        if "yaml_implicit_resolvers" not in vars(_class):
            _class.yaml_implicit_resolvers = {}
        # the scalars of YAML 1.2 replace PyYAML's, which follow YAML 1.1
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})\\Z"), _first)


def dump(data: Any) -> str:
    """Plain data as YAML text; `compose` and `plain` read the same data back."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    return text


def in_flow(data: Any) -> str:
    """Plain data as YAML in one line, as overrides and messages have it."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=1_000_000
    )
    return text.removesuffix("\n").removesuffix("\n...")


def position(mark: Any) -> Position:
    """A YAML mark as a position; marks of overrides have a name only."""
    return Position(mark.name) if mark.name.startswith("<") else Position(mark.name, mark.line + 1, mark.column + 1)


def compose(text: str, name: str) -> yaml.Node | None:
    """Parse `text` into a node tree; None if it is empty.

    Args:
        text: YAML.
        name: the file's name in messages, or `<path=value>` for an override.

    Raises:
        RecipeError: it is not YAML, or not allowed.
    """
    try:
        return _Loader(text, name).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        where = Position(name) if name.startswith("<") else Position(name, line, column)
        raise RecipeError(f"{where}: a control character; a recipe is plain text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.context, error.problem) if part)
        if "escape" in problem:  # "C:\data"
            problem += "; a backslash in double quotes begins an escape: use single quotes, or / in paths"
        raise RecipeError(f"{position(mark) if mark else name}: not YAML: {problem}") from None
    except RecipeError:
        raise
    except (ValueError, OverflowError, RecursionError) as error:  # e.g. the escape "\U00110000"
        raise RecipeError(f"{name}: not YAML: {error}") from None


def scalar(node: yaml.ScalarNode) -> Any:
    """Convert a scalar node to its value.

    Raises:
        ValueError: a number is not finite or does not fit into 64 bits.
    """
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind == "int":
        number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if abs(number) >= 2**63:
            raise ValueError(f"must fit into 64 bits, got {reprlib.repr(text)}")
        return number
    if kind == "float":
        value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if value - value != 0:
            raise ValueError(f"must be a finite number, got {reprlib.repr(text)}")
        return value
    return {"null": None, "bool": text[:1] in "tT"}.get(kind, text)


def plain(root: yaml.Node) -> tuple[Any, dict[Path_, Position], list[Mistake]]:
    """Convert a node tree to plain data; also the position of every key and list item by path, and the mistakes."""
    positions: dict[Path_, Position] = {(): position(root.start_mark)}
    mistakes: list[Mistake] = []

    def value_of(node: yaml.Node, path: Path_) -> Any:
        if isinstance(node, yaml.MappingNode):
            return mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                positions[*path, index] = position(item.start_mark)
            return [value_of(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        try:
            return scalar(node)
        except ValueError as error:
            mistakes.append(Mistake(positions[path], path, str(error)))
            return 0

    def mapping(node: yaml.MappingNode, path: Path_) -> dict[str | int, Any]:
        data: dict[str | int, Any] = {}
        for key_node, item in node.value:
            place = position(key_node.start_mark)
            try:
                key = scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            except ValueError as error:
                mistakes.append(Mistake(place, path, f"a key {error}"))
                continue
            if not isinstance(key, (str, int)) or isinstance(key, bool):
                mistakes.append(Mistake(place, path, f"a key must be text or an integer, got {_written(key_node)}"))
            elif key in data:
                first = positions[*path, key]
                mistakes.append(Mistake(place, (*path, key), f"given twice, first at {first}; remove one"))
            else:
                positions[*path, key] = place
                data[key] = value_of(item, (*path, key))
        return data

    return value_of(root, ()), positions, mistakes


def _written(node: yaml.Node) -> str:
    return reprlib.repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
