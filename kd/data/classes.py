"""The classes of a user's masks: names with colours or file values, from a recipe or a file."""

import colorsys
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import yaml

from kd.errors import DataError, did_you_mean
from kd.reading import read_text
from kd.types import IGNORE

MAX_CLASSES = 254
MAX_DEPTH = 8  # nested brackets; a class map needs two

Color = tuple[int, int, int]
Marker = int | tuple[int, ...] | None  # how masks mark a class: a file value, a colour, or by its index


class Classes(NamedTuple):
    """Class i is called `names[i]`; colours or file values are given for all classes or for none."""

    names: tuple[str, ...]
    colors: tuple[Color, ...] | None = None
    values: tuple[int, ...] | None = None


def read_classes(classes: Sequence[str] | Mapping[str, Sequence[int] | int] | str) -> Classes:
    """Classes from a list of names, from {name: [r, g, b]} or {name: file value}, or from a file with one of these.

    Args:
        classes: a list, a mapping, or the path of a `.yaml`, `.yml` or `.csv` file; a CSV has the columns
            name, r, g, b (or name, value, or name alone), with or without a header line.

    Raises:
        ValueError: fewer than 2 classes or more than 254, a repeated name, an invalid colour, or colours and values
            mixed.
        DataError: the file cannot be read, or has one of these mistakes.
    """
    if not isinstance(classes, str):
        return _checked(_rows(classes), "classes")
    path = Path(classes)
    text = read_text(path, "a class map", DataError)
    rows = _csv_rows(text, path) if path.suffix.lower() == ".csv" else _yaml_rows(text, path)
    try:
        return _checked(rows, str(path))
    except ValueError as error:
        raise DataError(str(error)) from None


def class_of_values(classes: Classes, values: Mapping[int, str] | None) -> dict[int, int]:
    """File value -> class or IGNORE: from `values`, else from the class map, else by index.

    255 is ignored unless `values` or the class map gives it a class.

    Raises:
        ValueError: `values` names an unknown class, or a file value is not an integer >= 0.
    """
    if values is None:
        given = {value: index for index, value in enumerate(classes.values or range(len(classes.names)))}
        return {IGNORE: IGNORE} | given
    given = {}
    for value, name in values.items():
        if not str(value).isdecimal():
            raise ValueError(f"values: {value!r} is not a mask value; write {{0: {classes.names[0]}, …}}")
        if name not in classes.names and name != "ignore":
            hint = did_you_mean(str(name), [*classes.names, "ignore"])
            raise ValueError(f"values: {value} is mapped to '{name}', which is not a class{hint}")
        given[int(value)] = classes.names.index(name) if name in classes.names else IGNORE
    return {IGNORE: IGNORE} | given


def distinct_colors(count: int) -> tuple[Color, ...]:
    """Black, then hues a golden angle apart, so that consecutive classes differ clearly."""
    turns = [(0.03 + 0.618034 * index) % 1 for index in range(count - 1)]
    rows = [
        colorsys.hsv_to_rgb(turn, 0.85 - 0.3 * (index // 8 % 2), 1.0 - 0.3 * (index // 4 % 2))
        for index, turn in enumerate(turns)
    ]
    return ((0, 0, 0), *((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in rows))[:count]


def _rows(classes: Iterable[str] | Mapping[str, Sequence[int] | int]) -> list[tuple[str, Marker]]:
    if not isinstance(classes, Mapping):
        return [(name, None) for name in classes]
    return [(name, tuple(marker) if isinstance(marker, Sequence) else marker) for name, marker in classes.items()]


def _checked(rows: list[tuple[str, Marker]], where: str) -> Classes:
    names = tuple(name for name, _ in rows)
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where}: {name!r} is not a class name; a name is text (put it in quotes)")
        if name in names[:index]:
            raise ValueError(f"{where}: the class '{name}' occurs twice; remove one")
    if not 2 <= len(names) <= MAX_CLASSES:
        raise ValueError(f"{where}: {len(names)} classes; give 2 to {MAX_CLASSES}, the background included")
    markers = [marker for _, marker in rows]
    if all(marker is None for marker in markers):
        return Classes(names)
    for name, marker in rows:
        if isinstance(marker, tuple) and not (
            len(marker) == 3 and all(type(v) is int and 0 <= v <= 255 for v in marker)
        ):
            raise ValueError(f"{where}: {name}: {list(marker)} is not a colour; write [r, g, b], each 0 … 255")
        if isinstance(marker, int) and (type(marker) is not int or marker < 0):
            raise ValueError(f"{where}: {name}: {marker} is not a mask value; write an integer, 0 or above")
        if not isinstance(marker, type(markers[0])):
            raise ValueError(f"{where}: {name}: colours and values are mixed; give every class the same kind")
        first = names[markers.index(marker)]
        if first != name:
            kind = "colour" if isinstance(marker, tuple) else "value"
            raise ValueError(f"{where}: {first} and {name} have the same {kind}; give each class its own")
    if isinstance(markers[0], tuple):
        return Classes(names, colors=tuple((m[0], m[1], m[2]) for m in markers if isinstance(m, tuple)))
    return Classes(names, values=tuple(m for m in markers if isinstance(m, int)))


def _csv_rows(text: str, path: Path) -> list[tuple[str, Marker]]:
    rows: list[tuple[str, Marker]] = []
    header = text.strip().partition("\n")[0]
    delimiter = next((sign for sign in ",;\t" if sign in header), ",")  # Excel writes the locale's
    for number, cells in enumerate(_cells(text, delimiter, path), 1):
        name, *numbers = [cell.strip() for cell in cells] or [""]
        has_titles = numbers and not any(cell.isdecimal() for cell in numbers)
        if not name or (number == 1 and (has_titles or name == "name")):
            continue  # an empty line, or the header
        if len(numbers) not in (0, 1, 3) or not all(cell.isdecimal() for cell in numbers):
            raise DataError(f"{path}:{number}: expected name,r,g,b, got '{delimiter.join(cells)[:80]}'")
        values = tuple(int(cell) for cell in numbers)
        rows.append((name, values if len(values) == 3 else values[0] if values else None))
    return rows


def _cells(text: str, delimiter: str, path: Path) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        yield from reader
    except csv.Error as error:  # a cell of more than 131,072 characters, as after a quote that is never closed
        raise DataError(f"{path}:{reader.line_num}: not CSV: {error}; close the quotes, or use YAML") from None


def _yaml_rows(text: str, path: Path) -> list[tuple[str, Marker]]:
    """Rows from the nodes, not the values: names stay as written (`no`, `on`), and no object is constructed."""
    brackets = accumulate(1 if sign in "[{" else -1 for sign in re.findall(r"[][{}]", text))
    if max(brackets, default=0) > MAX_DEPTH or re.search(rf"(-\s+){{{MAX_DEPTH},}}", text):  # very slow to parse
        raise DataError(f"{path}: not YAML: lists or mappings nested deeper than {MAX_DEPTH} levels")
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
    rows: list[tuple[str, Marker]] = []
    for key, value in node.value:
        if isinstance(value, yaml.SequenceNode):
            rows.append((_scalar(key, path), tuple(_integer(item, path) for item in value.value)))
        else:
            rows.append((_scalar(key, path), _integer(value, path)))
    return rows


def _scalar(node: yaml.Node, path: Path) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise DataError(f"{path}:{node.start_mark.line + 1}: expected one word, got a list or a mapping")
    return str(node.value)


def _integer(node: yaml.Node, path: Path) -> int:
    text = _scalar(node, path)
    if not text.isdecimal():
        raise DataError(f"{path}:{node.start_mark.line + 1}: '{text[:40]}' is not an integer, 0 or above")
    return int(text[:20])
