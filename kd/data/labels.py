"""What the values of a mask mean: classes, colours, and the sentences for values that mean nothing."""

import colorsys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.errors import DataError
from kd.types import IGNORE

Color = tuple[int, int, int]


def check_labels(labels: Tensor, num_classes: int, where: str) -> None:
    """Refuse labels uint8 (H, W) that are neither a class nor IGNORE: in a loss they would kill a CUDA context.

    Raises:
        DataError: names `where`, the values with their pixels, the first place, and the way out.
    """
    if bool(((labels >= num_classes) & (labels != IGNORE)).any()):
        translate(labels.numpy(), {value: value for value in range(num_classes)} | {IGNORE: IGNORE}, where)


def translate(codes: NDArray[Any], meaning: Mapping[int, int], where: str, *, colors: bool = False) -> Tensor:
    """The labels uint8 (H, W) that the codes of a mask stand for.

    Args:
        codes: integers (H, W): file values, or with `colors` packed RGB (`pack`).
        meaning: code -> class or IGNORE.
        where: the mask's name in the message.
        colors: whether codes are colours.

    Raises:
        DataError: a code has no meaning; names file, codes, their pixels and the first place.
    """
    keys = np.array(sorted(meaning), dtype=np.int64)
    classes = np.array([meaning[key] for key in keys.tolist()], dtype=np.uint8)
    if codes.dtype == np.uint8:  # a table is ten times faster, and most masks are of this kind
        at = np.minimum(np.searchsorted(keys, np.arange(256)), len(keys) - 1)
        known, labels = (keys[at] == np.arange(256))[codes], classes[at][codes]
    else:
        at = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
        known, labels = keys[at] == codes, classes[at]
    if not known.all():
        raise DataError(f"{where}: {_unknown(codes, ~known, meaning, colors)}")
    return torch.from_numpy(np.ascontiguousarray(labels))


def pack(pixels: NDArray[Any]) -> NDArray[np.int64]:
    """RGB (..., 3) as one integer a pixel, 0xRRGGBB."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def distinct_colors(count: int) -> tuple[Color, ...]:
    """Black, then hues a golden angle apart: neighbours in number are far apart in colour."""
    turns = [(0.03 + 0.618034 * i) % 1 for i in range(count - 1)]
    rows = [
        colorsys.hsv_to_rgb(turn, 0.85 - 0.3 * (i // 8 % 2), 1.0 - 0.3 * (i // 4 % 2)) for i, turn in enumerate(turns)
    ]
    return ((0, 0, 0), *((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in rows))[:count]


def _unknown(codes: NDArray[Any], wrong: NDArray[Any], meaning: Mapping[int, int], colors: bool) -> str:
    values, counts = np.unique(codes[wrong], return_counts=True)
    listed = [
        f"{_shown(v, colors)} ({n} pixel{'s' if n > 1 else ''})"
        for v, n in zip(values.tolist(), counts.tolist(), strict=True)
    ]
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    row, column = np.argwhere(wrong)[0].tolist()
    what = f"{'colour' if colors else 'label'}{'s' if len(listed) > 1 else ''} {', '.join(listed[:5])}{more}"
    place = f"first at row {row}, column {column}"
    if colors:
        first = int(codes[row, column])
        near = min(meaning, key=lambda code: _distance(code, first))
        return f"{what} in no class, {place}; the nearest in classes is {_shown(near, colors)}; add the colour there"
    known = _ranges(sorted(code for code, label in meaning.items() if label != IGNORE))
    ignored = _ranges(sorted(code for code, label in meaning.items() if label == IGNORE))
    known = f"{known}, ignored {ignored}" if ignored else known
    return (
        f"{what} in no class (known: {known}), {place}; write values: {{{values[0]}: ignore}} or name its class there"
    )


def _shown(code: int, colors: bool) -> str:
    return str((code >> 16, code >> 8 & 255, code & 255)) if colors else str(code)


def _distance(one: int, other: int) -> int:
    return sum(((one >> shift & 255) - (other >> shift & 255)) ** 2 for shift in (0, 8, 16))


def _ranges(values: list[int]) -> str:
    if len(values) > 2 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} … {values[-1]}"
    return ", ".join(str(value) for value in values[:12]) + (" …" if len(values) > 12 else "")
