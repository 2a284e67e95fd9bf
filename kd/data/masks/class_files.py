"""Class maps in files: YAML, CSV and text, as people and annotation tools write them."""

import re
from collections.abc import Sequence
from itertools import accumulate, takewhile
from pathlib import Path

import yaml

from kd.errors import DataError
from kd.files.reading import csv_rows, read_text

MAX_DEPTH = 8  # nested brackets; a class map needs three

Color = tuple[int, int, int]
Marker = int | Color  # what marks the pixels of a class: a number or a colour
Row = tuple[str, tuple[Marker, ...]]  # a class and its markers; () for its position in the list

_TITLES_OF_VALUES = ("pixel value", "value", "id", "index")
_LONGEST = 2000  # characters of a line of a text file that are compared with these forms
_HEX = re.compile(r"#([0-9a-fA-F]{6})")
_THREE = r"(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})"
_TEXTS = tuple(map(re.compile, (  # that all lines of a text file may have
    rf"(?P<name>.+?):\s*{_THREE}\s*:.*",  # CVAT's label:color_rgb:parts:actions
    rf"{_THREE}[\s,:]+(?P<name>\S.*)",
    rf"(?P<name>.*?\S)[\s,:]+{_THREE}",
    r"(?P<name>.*?\S)[\s,:]+(#[0-9a-fA-F]{6})",
    r"(\d+)\s*[:,\t]\s*(?P<name>\S.*)",
)))  # fmt: skip
_NAMES, _COLORS, _VALUES = ("name", "title", "label", "class"), ("color", "colour", "rgb"), ("value", "id", "index")


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
    """A name a line, alone or with its number or colour; or CVAT's `labelmap.txt`."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for form in _TEXTS:
        found = list(takewhile(bool, (form.fullmatch(line[:_LONGEST]) for line in lines)))  # ends with the first other
        if lines and len(found) == len(lines):
            marks = [number for number in range(1, form.groups + 1) if number != form.groupindex["name"]]
            return [_marked(match["name"], [match[number] for number in marks]) for match in found if match]
    return [(line, ()) for line in lines if line != "__ignore__"]  # labelme's name for -1, which masks hold as 255


def _csv_rows(text: str, path: Path) -> list[Row]:
    rows: list[Row] = []
    value_first = False  # as Roboflow writes them
    for number, row in csv_rows(text, path, DataError):
        cells = [cell.strip() for cell in row] or [""]
        name, *numbers = cells
        has_titles = numbers and not any(cell.isdecimal() or _HEX.fullmatch(cell) for cell in cells)
        if number == 1 and (has_titles or name == "name"):
            value_first = len(numbers) == 1 and name.lower() in _TITLES_OF_VALUES
            continue
        if not name:
            continue  # an empty line
        if value_first and len(numbers) == 1:
            name, numbers = numbers[0], [name]
        found = _row([name, *numbers])
        if found is None:
            line = text.split("\n")[number - 1]
            raise DataError(f"{path}:{number}: expected name,r,g,b, got '{line[:80]}'")
        rows.append(found)
    return rows


def _row(cells: Sequence[str]) -> Row | None:
    """A class from its name with its number or colour, in any order; None if that is not what the cells hold.

    With both, as in `id,name,r,g,b`, the colour counts.
    """
    others = [cell for cell in cells if not cell.isdecimal() and not _HEX.fullmatch(cell)]
    name = others[0] if others else cells[0]  # a class may be called 7
    at = cells.index(name)
    marks = [*cells[:at], *cells[at + 1 :]]
    if at == 1 and (len(marks) == 4 or (len(marks) == 2 and _HEX.fullmatch(marks[1]))):
        marks = marks[1:]
    if len(marks) not in (0, 1, 3) or not all(
        mark.isdecimal() or (len(marks) == 1 and _HEX.fullmatch(mark)) for mark in marks
    ):
        return None
    return _marked(name, marks)


def _marked(name: str, marks: Sequence[str]) -> Row:
    """A class from the texts of its number or colour; of a name alone, its position marks it."""
    if len(marks) == 1 and (color := _HEX.fullmatch(marks[0])):
        return name, (_hex_color(color[1]),)
    return name, _marker([int(mark[:20]) for mark in marks])


def _hex_color(digits: str) -> Color:
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


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
    return _node_rows(_named_part(node), path)


def _named_part(node: yaml.Node | None) -> yaml.Node | None:
    """The names within other settings, such as those of YOLO or nnU-Net; the node itself if it has none."""
    pairs: list[tuple[yaml.Node, yaml.Node]] = node.value if isinstance(node, yaml.MappingNode) else []
    for key, value in pairs:
        if key.value in ("names", "classes", "labels") and not _is_mark(value):
            return value
    return node


def _node_rows(node: yaml.Node | None, path: Path) -> list[Row]:
    """A list of names, or of mappings with a name each; a mapping of names to their marks, or of numbers to names."""
    if isinstance(node, yaml.SequenceNode):
        return [_mapped_row(item, path) or (_scalar(item, path), ()) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        raise DataError(f"{path}: neither a list of names nor a mapping of names to [r, g, b]")
    numbered = all(isinstance(node, yaml.ScalarNode) for pair in node.value for node in pair) and all(
        key.value.isdecimal() and not value.value.isdecimal() and not _HEX.fullmatch(value.value)
        for key, value in node.value
    )
    if numbered:
        return [(_scalar(value, path), (_integer(key, path),)) for key, value in node.value]
    return [(_scalar(key, path), _markers(value, path)) for key, value in node.value]


def _is_mark(node: yaml.Node) -> bool:
    """Whether a node is a number, a colour, or a list of colours, not names."""
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return all(
        isinstance(item, yaml.SequenceNode)
        or (isinstance(item, yaml.ScalarNode) and (item.value.isdecimal() or bool(_HEX.fullmatch(item.value))))
        for item in items
    )


def _mapped_row(node: yaml.Node, path: Path) -> Row | None:
    """A class as a mapping, such as {name: leaf, color: [0, 200, 0]}; None if it is no mapping with a name."""
    if not isinstance(node, yaml.MappingNode):
        return None
    held = {key.value.lower(): value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    name, color, value = (next((held[key] for key in keys if key in held), None) for keys in (_NAMES, _COLORS, _VALUES))
    if name is None:
        return None
    mark = color or value
    return _scalar(name, path), () if mark is None else _markers(mark, path)


def _markers(node: yaml.Node, path: Path) -> tuple[Marker, ...]:
    """A number, a colour, or a list of colours."""
    if not isinstance(node, yaml.SequenceNode):
        color = _HEX.fullmatch(node.value) if isinstance(node, yaml.ScalarNode) else None
        return (_hex_color(color[1]) if color else _integer(node, path),)
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
