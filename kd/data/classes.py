"""The classes of a user's masks: names, and where they have them, colours or file values."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import yaml

from kd.data.labels import Color
from kd.errors import DataError
from kd.types import IGNORE

_MOST_BYTES = 256 * 1024
_MOST_CLASSES = 254
_DEEPEST = 8  # brackets in one another; a class map needs two

Marks = int | tuple[int, ...] | None  # what a class map says of a class: its file value, its colour, or nothing


class Classes(NamedTuple):
    """Class i is called `names[i]`; colours or file values are given for all classes or for none."""

    names: tuple[str, ...]
    colors: tuple[Color, ...] | None = None
    values: tuple[int, ...] | None = None


def read_classes(classes: Sequence[str] | Mapping[str, Sequence[int] | int] | str) -> Classes:
    """Classes from a list of names, from {name: [r, g, b]} or {name: file value}, or from a file with one of them.

    Args:
        classes: a list, a mapping, or the path of a `.yaml`, `.yml` or `.csv` file; the CSV has the columns
            name, r, g, b (or name, value, or name alone) with or without a first line that says so.

    Raises:
        ValueError: fewer than 2 classes or more than 254, a repeated name, a colour that is none, a mixture.
        DataError: the file cannot be read, or one of these is in the file.
    """
    if not isinstance(classes, str):
        return _checked(_pairs(classes), "classes")
    path = Path(classes)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes are no class map")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: classes cannot be read: {error}") from error
    rows = _csv_rows(text, path) if path.suffix.lower() == ".csv" else _yaml_rows(text, path)
    try:
        return _checked(rows, str(path))
    except ValueError as error:
        raise DataError(str(error)) from None


def meanings(classes: Classes, values: Mapping[int, str] | None) -> dict[int, int]:
    """File value -> class or IGNORE: by `values`, else by the class map, else by index. 255 is ignored unless stated.

    Raises:
        ValueError: `values` names a class that there is not, or a file value that is no integer >= 0.
    """
    if values is None:
        stated = {value: i for i, value in enumerate(classes.values or range(len(classes.names)))}
        return {IGNORE: IGNORE} | stated
    stated = {}
    for value, name in values.items():
        if not str(value).isdecimal():
            raise ValueError(f"values: {value!r} is no value of a mask; write {{0: {classes.names[0]}, …}}")
        if name not in classes.names and name != "ignore":
            close = get_close_matches(str(name), [*classes.names, "ignore"], n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"classes are {', '.join(classes.names)}, and ignore"
            raise ValueError(f"values: {value} stands for '{name}', which is no class; {hint}")
        stated[int(value)] = classes.names.index(name) if name in classes.names else IGNORE
    return {IGNORE: IGNORE} | stated


def _pairs(classes: Iterable[str] | Mapping[str, Sequence[int] | int]) -> list[tuple[str, Marks]]:
    if not isinstance(classes, Mapping):
        return [(name, None) for name in classes]
    return [(name, tuple(mark) if isinstance(mark, Sequence) else mark) for name, mark in classes.items()]


def _checked(rows: list[tuple[str, Marks]], where: str) -> Classes:
    names = tuple(name for name, _ in rows)
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where}: {name!r} is no name of a class; names are text (put it in quotes)")
        if name in names[:i]:
            raise ValueError(f"{where}: the class '{name}' comes twice")
    if not 2 <= len(names) <= _MOST_CLASSES:
        raise ValueError(f"{where}: {len(names)} classes; 2 to {_MOST_CLASSES} are possible, the background being one")
    marks = [mark for _, mark in rows]
    if all(mark is None for mark in marks):
        return Classes(names)
    for name, mark in rows:
        if isinstance(mark, tuple) and not (len(mark) == 3 and all(type(v) is int and 0 <= v <= 255 for v in mark)):
            raise ValueError(f"{where}: {name}: {list(mark)} is no colour; write [r, g, b], each 0 … 255")
        if isinstance(mark, int) and (type(mark) is not int or mark < 0):
            raise ValueError(f"{where}: {name}: {mark} is no value of a mask; write an integer, 0 or above")
        if not isinstance(mark, type(marks[0])):
            raise ValueError(f"{where}: {name}: colours and values are mixed; give every class the same kind")
        first = names[marks.index(mark)]
        if first != name:
            raise ValueError(
                f"{where}: {first} and {name} have the same {'colour' if isinstance(mark, tuple) else 'value'}"
            )
    if isinstance(marks[0], tuple):
        return Classes(names, colors=tuple((m[0], m[1], m[2]) for m in marks if isinstance(m, tuple)))
    return Classes(names, values=tuple(m for m in marks if isinstance(m, int)))


def _csv_rows(text: str, path: Path) -> list[tuple[str, Marks]]:
    rows: list[tuple[str, Marks]] = []
    between = next((sign for sign in ",;\t" if sign in text.strip().partition("\n")[0]), ",")  # Excel's is the locale's
    for number, cells in enumerate(csv.reader(io.StringIO(text), delimiter=between), 1):
        name, *numbers = [cell.strip() for cell in cells] or [""]
        named = numbers and not any(cell.isdecimal() for cell in numbers)
        if not name or (number == 1 and (named or name == "name")):
            continue  # an empty line; the line that names the columns
        if len(numbers) not in (0, 1, 3) or not all(cell.isdecimal() for cell in numbers):
            raise DataError(f"{path}:{number}: '{between.join(cells)[:80]}' is not name,r,g,b")
        values = tuple(int(cell) for cell in numbers)
        rows.append((name, values if len(values) == 3 else values[0] if values else None))
    return rows


def _yaml_rows(text: str, path: Path) -> list[tuple[str, Marks]]:
    """From the nodes, not the values: names stay as they are written (`no`, `on`), and nothing is built or repeated."""
    brackets = accumulate(1 if sign in "[{" else -1 for sign in re.findall(r"[][{}]", text))
    if max(brackets, default=0) > _DEEPEST or re.search(rf"(-\s+){{{_DEEPEST},}}", text):  # slow to parse, if at all
        raise DataError(f"{path}: not YAML: more than {_DEEPEST} lists or mappings in one another")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{path}{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from None
    if isinstance(node, yaml.SequenceNode):
        return [(_scalar(item, path), None) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        raise DataError(f"{path}: neither a list of names nor a mapping of names to [r, g, b]")
    rows: list[tuple[str, Marks]] = []
    for key, value in node.value:
        if isinstance(value, yaml.SequenceNode):
            rows.append((_scalar(key, path), tuple(_integer(item, path) for item in value.value)))
        else:
            rows.append((_scalar(key, path), _integer(value, path)))
    return rows


def _scalar(node: yaml.Node, path: Path) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise DataError(f"{path}:{node.start_mark.line + 1}: expected one word, found a list or a mapping")
    return str(node.value)


def _integer(node: yaml.Node, path: Path) -> int:
    text = _scalar(node, path)
    if not text.isdecimal():
        raise DataError(f"{path}:{node.start_mark.line + 1}: '{text[:40]}' is no integer, 0 or above")
    return int(text[:20])
