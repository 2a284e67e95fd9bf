"""Labels from the values of a mask, and messages about values without a meaning."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.errors import DataError
from kd.types import IGNORE


def check_labels(labels: Tensor, num_classes: int, where: str) -> None:
    """Refuse labels uint8 (H, W) that are neither a class nor IGNORE: in a loss they would break the CUDA context.

    Raises:
        DataError: with `where`, the wrong values and their pixel counts, the first position, and the fix.
    """
    if bool(((labels >= num_classes) & (labels != IGNORE)).any()):
        translate(labels.numpy(), {value: value for value in range(num_classes)} | {IGNORE: IGNORE}, where)


def translate(codes: NDArray[Any], class_of: Mapping[int, int], where: str, *, colors: bool = False) -> Tensor:
    """Translate the codes of a mask to labels uint8 (H, W).

    Args:
        codes: integers (H, W): file values, or, with `colors`, RGB packed by `pack`.
        class_of: code -> class or IGNORE.
        where: the mask's name in the message.
        colors: whether the codes are colours.

    Raises:
        DataError: a code is not in `class_of`; with the file, the codes, their pixel counts and the first position.
    """
    keys = np.array(sorted(class_of), dtype=np.int64)
    classes = np.array([class_of[key] for key in keys.tolist()], dtype=np.uint8)
    if codes.dtype == np.uint8:  # the usual mask; a lookup table is ten times faster
        at = np.minimum(np.searchsorted(keys, np.arange(256)), len(keys) - 1)
        known, labels = (keys[at] == np.arange(256))[codes], classes[at][codes]
    else:
        at = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
        known, labels = keys[at] == codes, classes[at]
    if not known.all():
        raise DataError(f"{where}: {_unknown(codes, ~known, class_of, colors)}")
    return torch.from_numpy(np.ascontiguousarray(labels))


def pack(pixels: NDArray[Any]) -> NDArray[np.int64]:
    """RGB (..., 3) as one integer per pixel, 0xRRGGBB."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def _unknown(codes: NDArray[Any], wrong: NDArray[Any], class_of: Mapping[int, int], colors: bool) -> str:
    values, counts = np.unique(codes[wrong], return_counts=True)
    listed = [
        f"{_shown(value, colors)} ({count} pixel{'s' if count > 1 else ''})"
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
    ]
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    noun = f"{'colour' if colors else 'label'}{'s' if len(listed) > 1 else ''}"
    row, column = np.argwhere(wrong)[0].tolist()
    what = f"{noun} {', '.join(listed[:5])}{more} in no class"
    place = f"first at row {row}, column {column}"
    if colors:
        first = int(codes[row, column])
        nearest = min(class_of, key=lambda code: _distance(code, first))
        return f"{what}, {place}; the nearest colour in classes is {_shown(nearest, colors)}; add the missing one there"
    known = _ranges(sorted(code for code, label in class_of.items() if label != IGNORE))
    ignored = _ranges(sorted(code for code, label in class_of.items() if label == IGNORE))
    known = f"{known}, ignored {ignored}" if ignored else known
    return f"{what} (known: {known}), {place}; set values: {{{values[0]}: ignore}} or map it to a class there"


def _shown(code: int, colors: bool) -> str:
    return str((code >> 16, code >> 8 & 255, code & 255)) if colors else str(code)


def _distance(code: int, other: int) -> int:
    return sum(((code >> shift & 255) - (other >> shift & 255)) ** 2 for shift in (0, 8, 16))


def _ranges(values: list[int]) -> str:
    if len(values) > 2 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} … {values[-1]}"
    return ", ".join(str(value) for value in values[:12]) + (" …" if len(values) > 12 else "")
