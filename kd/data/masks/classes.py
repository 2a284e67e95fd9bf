"""The classes of a user's masks: names with the numbers or colours that mark them, from a recipe or a file."""

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kd.data.masks.class_files import Color, Marker, Row, file_rows
from kd.errors import DataError
from kd.types import IGNORE
from kd.units import counted

MAX_CLASSES = 254
MAX_CODE = 2**31 - 1
IGNORED = "ignore"  # a name in a class map, or in `values`, for what is no class

ClassMap = Sequence[str] | Mapping[str, Sequence[int] | Sequence[Sequence[int]] | int] | str


class Classes(NamedTuple):
    """Class i is called `names[i]`."""

    names: tuple[str, ...]
    codes: Mapping[int, int]  # number, or colour 0xRRGGBB, -> class or IGNORE
    colors: tuple[Color, ...] | None = None  # of each class, if colours mark the classes
    by_index: bool = False  # whether the numbers are positions in a list of names


def read_classes(classes: ClassMap) -> Classes:
    """Classes from a list of names, from {name: [r, g, b]} or {name: number}, or from a file with one of these.

    The name `ignore` is no class: what it marks is ignored. Of a class with several colours, [[r, g, b], …], the first
    is the one that pictures show.

    Args:
        classes: a list, a mapping, or the path of a file: YAML or JSON (names; {name: mark}; {number: name}; mappings
            with a name and a color or an id; one of these under `names`, `classes` or `labels`); a CSV with the columns
            name, r, g, b (or name, value, or value, name, or name alone, or a number before them), with or without a
            header line; a `.txt` with a name a line, alone or with its colour or number, or CVAT's `labelmap.txt`.
            A colour may also be written #rrggbb.

    Raises:
        ValueError: fewer than 2 classes or more than 254, a repeated name, an invalid colour, or colours and values
            mixed.
        DataError: the file cannot be read, or has one of these mistakes.
    """
    if not isinstance(classes, str):
        return _checked(_rows(classes), "classes")
    path = Path(classes)
    rows = file_rows(path)
    try:
        return _checked(rows, str(path))
    except ValueError as error:
        raise DataError(str(error)) from None


def code_of(color: Sequence[int]) -> int:
    """RGB as one number, 0xRRGGBB."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def color_of(code: int) -> Color:
    """0xRRGGBB as RGB."""
    return code >> 16, code >> 8 & 255, code & 255


def distinct_colors(count: int) -> tuple[Color, ...]:
    """Black, then hues a golden angle apart, so that consecutive classes differ clearly."""
    turns = [(0.03 + 0.618034 * index) % 1 for index in range(count - 1)]
    rows = [
        colorsys.hsv_to_rgb(turn, 0.85 - 0.3 * (index // 8 % 2), 1.0 - 0.3 * (index // 4 % 2))
        for index, turn in enumerate(turns)
    ]
    return ((0, 0, 0), *((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in rows))[:count]


def _rows(classes: ClassMap) -> list[Row]:
    if not isinstance(classes, Mapping):
        return [(name, ()) for name in classes]
    return [(name, _markers(marker)) for name, marker in classes.items()]


def _markers(marker: Any) -> tuple[Marker, ...]:
    """A number, a colour, or a list of colours; what else it may be, `_check_marker` refuses."""
    if not isinstance(marker, (list, tuple)):
        return (marker,)
    several = marker and all(isinstance(item, (list, tuple)) for item in marker)
    return tuple(map(tuple, marker)) if several else (tuple(marker),)


def _checked(rows: list[Row], where: str) -> Classes:
    names = tuple(name for name, _ in rows if name != IGNORED)
    for index, (name, _) in enumerate(rows):
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where}: {name!r} is not a class name; a name is text (put it in quotes)")
        if name in [earlier for earlier, _ in rows[:index]]:
            raise ValueError(f"{where}: the class '{name}' occurs twice; remove one")
    if not 2 <= len(names) <= MAX_CLASSES:
        raise ValueError(
            f"{where}: {counted(len(names), 'class', 'classes')}; give 2 to {MAX_CLASSES}, the background included"
        )
    label_of = {name: index for index, name in enumerate(names)} | {IGNORED: IGNORE}
    marked = [(name, marker) for name, markers in rows for marker in markers]
    if not marked:
        return Classes(names, {i: label_of[name] for i, (name, _) in enumerate(rows)}, by_index=True)
    name_of: dict[Marker, str] = {}
    for name, marker in marked:
        _check_marker(name, marker, where)
        if not isinstance(marker, type(marked[0][1])) or not all(markers for _, markers in rows):
            raise ValueError(f"{where}: {name}: colours and values are mixed; give every class the same kind")
        if name_of.setdefault(marker, name) != name:
            kind = "colour" if isinstance(marker, tuple) else "value"
            raise ValueError(f"{where}: {name_of[marker]} and {name} have the same {kind}; give each class its own")
    codes = {code_of(m) if isinstance(m, tuple) else m: label_of[name] for m, name in name_of.items()}
    first = dict(reversed(marked))
    if isinstance(marked[0][1], int):
        return Classes(names, codes)
    return Classes(names, codes, tuple(m for name in names if isinstance(m := first[name], tuple)))


def _check_marker(name: str, marker: Marker, where: str) -> None:
    if isinstance(marker, tuple):
        if len(marker) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in marker):
            raise ValueError(f"{where}: {name}: {list(marker)} is not a colour; write [r, g, b], each 0 … 255")
    elif type(marker) is not int or marker < 0:
        raise ValueError(f"{where}: {name}: {marker} is not a mask value; write an integer, 0 or above")
    elif marker > MAX_CODE:
        raise ValueError(f"{where}: {name}: {marker} is not a mask value; write an integer up to {MAX_CODE}")
