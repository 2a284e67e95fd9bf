"""Messages about codes in masks that have no meaning: all of them, what they probably are, and a line that helps."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from kd.data.masks.classes import IGNORED, color_of
from kd.data.masks.meaning import WHITE, Meaning
from kd.data.words import yaml_word
from kd.errors import DataError
from kd.types import IGNORE
from kd.units import counted

MAX_LISTED = 40  # codes in one message
MAX_VALUES = 8  # codes in an advised line; `rest` is shorter

CITYSCAPES = {  # the ids of the classes that Cityscapes scores; its labelIds run from 0 to 33
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
_COCO_STUFF = 182  # the largest id
_REST = "in data.args set rest: ignore"


class Found(NamedTuple):
    """The codes in some masks of a split."""

    counts: dict[int, int]  # pixels of each code
    first: str  # the mask with the first unknown code
    place: str  # of its first pixel
    masks: int = 1  # counted
    total: int = 1  # in the split


class UnknownCodesError(DataError):
    """A mask holds codes without a meaning."""

    found: Found


def message(meaning: Meaning, found: Found) -> str:
    """All unknown codes in masks with their pixel counts, the first place, what they probably are, and the fix.

    Args:
        meaning: of the masks.
        found: what they hold; at least one code is unknown.
    """
    unknown = {code: found.counts[code] for code in sorted(found.counts) if code not in meaning.codes}
    listed = [f"{meaning.text(code)} ({counted(count, 'pixel')})" for code, count in unknown.items()]
    more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    noun = f"{'colour' if meaning.colors else 'label'}{'s' if len(listed) > 1 else ''}"
    where = f", counted in {how_many(found.masks, found.total)}" if found.masks > 1 else ""
    return (
        f"{found.first}: {noun} {', '.join(listed[:MAX_LISTED])}{more} in no class{_known(meaning)}{where}, "
        f"first at {found.place}; {_advice(meaning, found.counts, unknown)}"
    )


def values_line(meaning: Meaning, added: Mapping[int, str]) -> str:
    """The line of `values` in a recipe with more codes."""
    entries = [f"{meaning.key(code)}: {yaml_word(name)}" for code, name in ({**(meaning.given or {}), **added}).items()]
    return f"values: {{{', '.join(entries)}}}"


def how_many(read: int, total: int) -> str:
    """How many masks of a split were read, as messages show it."""
    return counted(read, "mask") if read == total else f"{read} of {total} masks"


def _known(meaning: Meaning) -> str:
    if meaning.colors:
        return ""
    known = ranges(code for code, label in meaning.codes.items() if label != IGNORE)
    ignored = ranges(code for code, label in meaning.codes.items() if label == IGNORE)
    return f" (known: {known}, ignored {ignored})" if ignored else f" (known: {known})"


def _advice(meaning: Meaning, counts: Mapping[int, int], unknown: Mapping[int, int]) -> str:
    if meaning.fix:
        return meaning.fix
    guesses = (_indices, _blends) if meaning.colors else (_cityscapes, _numbering, _instances, _coco, _edges)
    for guess in guesses:
        if text := guess(meaning, counts, unknown):
            return text
    if len(unknown) > MAX_VALUES:
        return f"{_REST} if they are no classes"
    line = f"in data.args set {values_line(meaning, dict.fromkeys(unknown, IGNORED))}, or a class in place of ignore"
    if meaning.colors and len(unknown) == 1:
        nearest = min(meaning.codes, key=lambda code: _distance(code, *unknown))
        return f"the nearest colour in classes is {meaning.text(nearest)}; {line}"
    return line


def _cityscapes(meaning: Meaning, counts: Mapping[int, int], unknown: Mapping[int, int]) -> str:
    codes = counts.keys() - {IGNORE}
    if max(codes) > 33:
        return ""
    ids = {name: CITYSCAPES[name] for name in meaning.names if name in CITYSCAPES}
    if meaning.by_index and len(ids) == len(meaning.names) and 2 * len(codes & set(ids.values())) > len(ids):
        listed = ", ".join(f"{yaml_word(name)}: {number}" for name, number in ids.items())
        return f"they look like the labelIds of Cityscapes; in data.args set classes: {{{listed}}}, rest: ignore"
    if not meaning.by_index and len(unknown) > MAX_VALUES:
        return f"they look like the labelIds of Cityscapes; {_REST}"
    return ""


def _numbering(meaning: Meaning, counts: Mapping[int, int], unknown: Mapping[int, int]) -> str:
    """As many numbers as classes, in another numbering; or 0 for no class, and the classes from 1."""
    codes, names = sorted(counts.keys() - {IGNORE}), meaning.names
    if not meaning.by_index or set((meaning.given or {}).values()) - {IGNORED}:
        return ""
    if len(codes) == len(names):
        line = values_line(meaning, dict(zip(codes, names, strict=True)))
        return f"the masks hold {ranges(codes)} for {len(names)} classes; in data.args set {line}"
    if codes[0] == 0 and list(unknown) == [len(names)]:
        line = values_line(meaning, dict(enumerate((IGNORED, *names))))
        probably = f"the masks hold {ranges(codes)} for {len(names)} classes: 0 is probably to be ignored"
        return f"{probably}; in data.args set {line}"
    return ""


def _instances(meaning: Meaning, counts: Mapping[int, int], unknown: Mapping[int, int]) -> str:
    if max(unknown) <= WHITE:
        return ""
    return (
        "numbers above 255 are ids of instances, not of classes; set masks or mask_suffix to the files that hold one "
        "number per class"
    )


def _coco(meaning: Meaning, counts: Mapping[int, int], unknown: Mapping[int, int]) -> str:
    largest = max(counts.keys() - {IGNORE})
    if len(unknown) <= MAX_VALUES or not 90 < largest <= _COCO_STUFF or _edges(meaning, counts, unknown):
        return ""
    ids = "; write classes with their ids, such as {person: 0, sky-other: 156}, and" if meaning.by_index else ";"
    return f"they look like the ids of COCO-Stuff{ids} {_REST}"


def _edges(meaning: Meaning, counts: Mapping[int, int], unknown: Mapping[int, int]) -> str:
    """Shades between the numbers of two classes, in few pixels."""
    known = sorted(code for code in meaning.codes if code in counts)
    apart = len(known) > 1 and min(b - a for a, b in pairwise(known)) > 10
    if not apart or len(unknown) < 3 or 2 * sum(unknown.values()) > sum(counts.values()):
        return ""
    guess = f"they look like blurred or compressed edges ({_share(counts, unknown)} of the pixels)"
    if len(meaning.names) == 2 and known[0] == 0 and known[-1] == WHITE:
        return f"{guess}; in data.args set threshold: 128"
    return f"{guess}; {_REST}"


def _indices(meaning: Meaning, counts: Mapping[int, int], unknown: Mapping[int, int]) -> str:
    """Numbers of classes, where the class map gives colours."""
    shades = {color[0] for color in map(color_of, counts) if len(set(color)) == 1}
    if len(shades) < len(counts) or max(shades - {IGNORE}, default=WHITE) >= len(meaning.names):
        return ""
    listed = ", ".join(map(yaml_word, meaning.names))
    return f"the masks hold numbers, not colours; in data.args set classes: [{listed}]"


def _blends(meaning: Meaning, counts: Mapping[int, int], unknown: Mapping[int, int]) -> str:
    """Colours between those of two classes, in few pixels."""
    known = [color_of(code) for code in meaning.codes if code in counts]
    if len(unknown) < 3 or 2 * sum(unknown.values()) > sum(counts.values()):
        return ""
    checked = sorted(unknown, key=lambda code: -unknown[code])[:200]
    between = sum(
        any(_off_the_line(color_of(code), a, b) <= 16 for i, a in enumerate(known) for b in known[: i + 1])
        for code in checked
    )
    if between < 0.8 * len(checked):
        return ""
    return f"they look like blurred or compressed edges ({_share(counts, unknown)} of the pixels); {_REST}"


def _off_the_line(color: Sequence[int], a: Sequence[int], b: Sequence[int]) -> float:
    """The distance of a colour from the line between two others."""
    way = [end - start for start, end in zip(a, b, strict=True)]
    length = sum(step * step for step in way)
    along = (
        sum((value - start) * step for value, start, step in zip(color, a, way, strict=True)) / length if length else 0
    )
    nearest = [start + min(1.0, max(0.0, along)) * step for start, step in zip(a, way, strict=True)]
    return float(sum((value - at) ** 2 for value, at in zip(color, nearest, strict=True)) ** 0.5)


def _distance(code: int, other: int) -> int:
    return sum((a - b) ** 2 for a, b in zip(color_of(code), color_of(other), strict=True))


def _share(counts: Mapping[int, int], unknown: Mapping[int, int]) -> str:
    return f"{100 * sum(unknown.values()) / sum(counts.values()):.1f} %"


def ranges(codes: Iterable[int]) -> str:
    """Numbers as messages show them: `0 … 4`, or a list."""
    values = sorted(codes)
    if len(values) > 2 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} … {values[-1]}"
    return ", ".join(str(value) for value in values[:12]) + (" …" if len(values) > 12 else "")
