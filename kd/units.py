"""Amounts as people write them: steps or a share of them, times, and sizes of files."""

import re
from typing import Any

from kd.errors import shown


def amount(value: Any) -> int | str:
    """`value`, if it is a number of steps or a share such as `5%`.

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
    """Steps in an amount: `7` is 7, `"5%"` is that share of `total`, rounded, and at least 1 if it is above 0.

    Raises:
        ValueError: `value` is neither.
    """
    given = amount(value)
    if isinstance(given, int):
        return given
    share = float(given.removesuffix("%"))
    return max(1, round(total * share / 100)) if share > 0 else 0


def multiples_near(size: int, parts: int) -> str:
    """The multiples of `parts` around `size`, none of them 0, as a message lists them."""
    below = size // parts * parts
    return " and ".join(map(str, [below, below + parts] if below else [parts]))


def as_seconds(text: str) -> float:
    """Seconds in `6h`, `90m`, `1.5h`, `2d` or `3600s`.

    Raises:
        ValueError: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None or float(found[1]) == 0:
        raise ValueError(f"must be a time such as 6h, 90m or 2d, got '{text}'")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def duration(seconds: float) -> str:
    """Seconds, >= 0, in the unit that reads best: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def data_size(count: float) -> str:
    """Bytes, >= 0, in the unit that reads best: `512 bytes`, `16.4 kB`, `1.2 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
