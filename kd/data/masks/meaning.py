"""What the masks of a dataset hold, declared once for all files: numbers or colours, and the class of each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from kd.data.masks.classes import IGNORED, MAX_CODE, Classes, code_of, color_of
from kd.errors import did_you_mean
from kd.types import IGNORE

WHITE = 255


@dataclass(frozen=True)
class Meaning:
    """The class of every code that masks may hold: a number as stored, or a colour whatever the encoding of the file.

    Args:
        names: of the classes.
        codes: number, or colour 0xRRGGBB, -> class or IGNORE.
        colors: whether the codes are colours.
        rest: class or IGNORE of all other codes; None: they are an error.
        threshold: in masks in shades of grey, pixels from this value up are white and the others black; None: masks
            hold codes.
        white: the number of white in a mask that is only black and white; black is 0.
        given: the codes in `values`, as the recipe writes them.
        by_index: whether the classes have no codes of their own: class i is the number i.
        fix: what helps against masks that hold anything else; empty: the arguments of `Folders`.
    """

    names: tuple[str, ...]
    codes: Mapping[int, int]
    colors: bool = False
    rest: int | None = None
    threshold: int | None = None
    white: int = 1
    given: Mapping[int, str] | None = None
    by_index: bool = False
    fix: str = ""

    @cached_property
    def entries(self) -> tuple[tuple[int, int], ...]:
        """The codes with their classes, sorted."""
        return tuple(sorted(self.codes.items()))

    @property
    def ignores_white(self) -> bool:
        """Whether 255 is ignored although the recipe does not mention it."""
        return not self.colors and self.codes.get(WHITE) == IGNORE and WHITE not in (self.given or {})

    def text(self, code: int) -> str:
        """A code as messages show it."""
        return str(color_of(code)) if self.colors else str(code)

    def key(self, code: int) -> str:
        """A code as a key of `values` in YAML."""
        return f'"{", ".join(map(str, color_of(code)))}"' if self.colors else str(code)


def declared(
    classes: Classes,
    values: Mapping[int | str, str] | None = None,
    rest: str | None = None,
    threshold: int | None = None,
) -> Meaning:
    """The meaning of masks that a recipe declares.

    Args:
        classes: the class map.
        values: further codes: a number, or a colour "r, g, b" where the class map has colours -> a class or `ignore`.
        rest: a class or `ignore`, for all codes that are not named.
        threshold: 1 … 255, for masks of two classes in shades of grey.

    Raises:
        ValueError: an argument is out of range, names an unknown class, or does not fit the class map.
    """
    colors = classes.colors is not None
    given = {_code(key, colors): _known_class(key, str(name), classes) for key, name in (values or {}).items()}
    codes = dict(classes.codes)
    if classes.by_index and set(given.values()) >= set(classes.names):
        codes = {}  # `values` states every class by itself
    codes |= {code: _index(name, classes) for code, name in given.items()}
    if threshold is not None and not (type(threshold) is int and 1 <= threshold <= WHITE):
        raise ValueError(f"threshold: {threshold!r} is not a shade of grey; write an integer, 1 … 255, such as 128")
    if threshold is not None and len(classes.names) != 2:
        raise ValueError(f"threshold: it separates two classes, but there are {len(classes.names)}; remove it")
    white_is_class = codes.get(WHITE, IGNORE) != IGNORE
    one_is_meant = 1 in given or (1 in codes and not classes.by_index)
    if not colors:
        codes.setdefault(WHITE, IGNORE)
    return Meaning(
        classes.names,
        codes,
        colors,
        None if rest is None else _index(_known_class("rest", str(rest), classes), classes),
        threshold,
        WHITE if white_is_class and not one_is_meant else 1,
        given,
        classes.by_index,
    )


def _code(key: int | str, colors: bool) -> int:
    channels = re.fullmatch(r"\s*\[?\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]?\s*", str(key))
    if channels and colors and all(int(channel) <= WHITE for channel in channels.groups()):
        red, green, blue = map(int, channels.groups())
        return code_of((red, green, blue))
    if colors:
        raise ValueError(f'values: {key!r} is not a colour, and classes gives colours; write "255, 255, 255": ignore')
    if channels:
        raise ValueError(f"values: {key!r} is a colour, but classes gives none; write classes: {{name: [r, g, b], …}}")
    if isinstance(key, bool) or not re.fullmatch(r"-?\d{1,10}", str(key)) or abs(int(key)) > MAX_CODE:
        raise ValueError(f"values: {key!r} is not a mask value; write an integer, such as {{7: ignore}}")
    return int(key)


def _known_class(key: int | str, name: str, classes: Classes) -> str:
    if name not in (*classes.names, IGNORED):
        hint = did_you_mean(name, [*classes.names, IGNORED])
        where = "rest: it" if key == "rest" else f"values: {key}"
        raise ValueError(f"{where} is mapped to '{name}', which is not a class{hint}")
    return name


def _index(name: str, classes: Classes) -> int:
    return IGNORE if name == IGNORED else classes.names.index(name)
