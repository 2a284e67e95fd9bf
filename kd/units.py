"""Amounts as recipes, commands and messages write them: steps or a share of all steps, durations, sizes, counts."""

import math
import os
import re
from typing import Any

from kd.errors import shown

NOTHING = "–"  # in a table, for a number that is not there


def from_environment(name: str, otherwise: int) -> int:
    """A number in the environment; `otherwise` where it is not set, or is no number: an env file may leave it empty."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else otherwise


def percent(share: float | None) -> str:
    """`52.5`, of a share from 0 to 1; a dash for None and NaN."""
    return NOTHING if share is None or math.isnan(share) else f"{100 * share:.1f}"


def metric_title(label: str, unit: str, direction: str) -> str:
    """What tables call a metric, `BoundaryIoU %`; an arrow where lower is better."""
    return " ".join(filter(None, (label, unit, "↓" if direction == "lower" else "")))


def amount(value: Any) -> int | str:
    """Check that `value` is a number of steps or a share such as `5%`, and return it.

    Raises:
        ValueError: it is neither.
    """
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and value.endswith("%"):
        number = value.removesuffix("%")
        if number.replace(".", "", 1).isdecimal() and number.isascii() and float(number) <= 100:
            return value
    raise ValueError(f"must be steps (200) or a share (5%, at most 100%), got {shown(value)}")


def as_steps(value: int | str, total: int) -> int:
    """An amount in steps: `7` is 7; `"5%"` is that share of `total`, rounded, at least 1 unless it is `0%`.

    Raises:
        ValueError: `value` is neither.
    """
    checked = amount(value)
    if isinstance(checked, int):
        return checked
    share = float(checked.removesuffix("%"))
    return max(1, round(total * share / 100)) if share > 0 else 0


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 image`, `2 images`; `plural` where it is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def multiples_near(size: int, parts: int) -> str:
    """The positive multiples of `parts` next to `size`, as messages list them."""
    below = size // parts * parts
    return " and ".join(map(str, [below, below + parts] if below else [parts]))


def as_seconds(text: str) -> float:
    """Parse a duration such as `6h`, `90m`, `1.5h`, `2d` or `3600s` into seconds.

    Raises:
        ValueError: it has another form, or is 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None or float(match[1]) == 0:
        raise ValueError(f"must be a time such as 6h, 90m or 2d, got '{text}'")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def duration(seconds: float) -> str:
    """Format seconds, >= 0, in a suitable unit: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def data_size(count: float) -> str:
    """Format bytes, >= 0, in a suitable unit: `512 bytes`, `16.4 kB`, `1.2 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
