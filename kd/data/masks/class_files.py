"""Class maps in files: YAML, CSV and text, as people and annotation tools write them."""

import csv
import io
import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import yaml

from kd.errors import DataError
from kd.reading import read_text

MAX_DEPTH = 8  # nested brackets; a class map needs three

Color = tuple[int, int, int]
Marker = int | Color  # what marks the pixels of a class: a number or a colour
Row = tuple[str, tuple[Marker, ...]]  # a class and its markers; () for its position in the list

_TITLES_OF_VALUES = ("pixel value", "value", "id", "index")
_CVAT = re.compile(r"(.+?):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*:.*")  # label:color_rgb:parts:actions


def file_rows(path: Path) -> list[Row]:
    """The rows of a class map in a file; what they hold is not checked.

    Raises:
        DataError: the file cannot be read, or is not of the form that its suffix promises.
    """
    text = read_text(path, "a class map", DataError)
    kind = path.suffix.lower()
    if kind == ".csv":
        return _csv_rows(text, path)
    return _yaml_rows(text, path) if kind in (".yaml", ".yml", ".json") else _text_rows(text)


def _text_rows(text: str) -> list[Row]:
    """A name a line, or CVAT's `labelmap.txt`."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    colored = [_CVAT.fullmatch(line) for line in lines]
    if lines and all(colored):
        return [(m[1], ((int(m[2]), int(m[3]), int(m[4])),)) for m in colored if m]
    return [(line, ()) for line in lines if line != "__ignore__"]  # labelme's name for -1, which masks hold as 255


def _csv_rows(text: str, path: Path) -> list[Row]:
    rows: list[Row] = []
    header = text.strip().partition("\n")[0]
    delimiter = next((sign for sign in ",;\t" if sign in header), ",")  # Excel writes the locale's
    value_first = False  # as Roboflow writes them
    for number, cells in enumerate(_cells(text, delimiter, path), 1):
        name, *numbers = [cell.strip() for cell in cells] or [""]
        has_titles = numbers and not any(cell.isdecimal() for cell in (name, *numbers))
        if number == 1 and (has_titles or name == "name"):
            value_first = len(numbers) == 1 and name.lower() in _TITLES_OF_VALUES
            continue
        if not name:
            continue  # an empty line
        if len(numbers) == 1 and (value_first or (name.isdecimal() and not numbers[0].isdecimal())):
            name, numbers = numbers[0], [name]
        if len(numbers) not in (0, 1, 3) or not all(cell.isdecimal() for cell in numbers):
            raise DataError(f"{path}:{number}: expected name,r,g,b, got '{delimiter.join(cells)[:80]}'")
        rows.append((name, _marker([int(cell[:20]) for cell in numbers])))
    return rows


def _cells(text: str, delimiter: str, path: Path) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        yield from reader
    except csv.Error as error:  # a cell of more than 131,072 characters, as after a quote that is never closed
        raise DataError(f"{path}:{reader.line_num}: not CSV: {error}; close the quotes, or use YAML") from None


def _yaml_rows(text: str, path: Path) -> list[Row]:
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
        return [(_scalar(item, path), ()) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        raise DataError(f"{path}: neither a list of names nor a mapping of names to [r, g, b]")
    return [(_scalar(key, path), _markers(value, path)) for key, value in node.value]


def _markers(node: yaml.Node, path: Path) -> tuple[Marker, ...]:
    """A number, a colour, or a list of colours."""
    if not isinstance(node, yaml.SequenceNode):
        return (_integer(node, path),)
    if node.value and all(isinstance(item, yaml.SequenceNode) for item in node.value):
        return tuple(tuple(_integer(part, path) for part in item.value) for item in node.value)  # type: ignore[misc]
    return (tuple(_integer(item, path) for item in node.value),)  # type: ignore[return-value]


def _marker(numbers: list[int]) -> tuple[Marker, ...]:
    return tuple(numbers) if len(numbers) < 2 else ((numbers[0], numbers[1], numbers[2]),)


def _scalar(node: yaml.Node, path: Path) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise DataError(f"{path}:{node.start_mark.line + 1}: expected one word, got a list or a mapping")
    return str(node.value)


def _integer(node: yaml.Node, path: Path) -> int:
    text = _scalar(node, path)
    if not text.isdecimal():
        raise DataError(f"{path}:{node.start_mark.line + 1}: '{text[:40]}' is not an integer, 0 or above")
    return int(text[:20])
