"""Labels of masks, whatever the encoding of their files."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.data.images.decode import UPRIGHT, Source
from kd.data.images.read import Stored, is_grey, read_mask
from kd.data.masks.classes import code_of
from kd.data.masks.meaning import WHITE, Meaning
from kd.data.masks.unknown import Found, UnknownCodesError, message, ranges
from kd.data.words import yaml_word
from kd.errors import DataError

_UNKNOWN = 254  # in a table of labels: a code without a meaning; no class has this index
_GREY = np.arange(256, dtype=np.int64)
_BLACK_AND_WHITE = np.array([0, code_of((WHITE, WHITE, WHITE))])


class Coded(NamedTuple):
    """A mask in the codes of a meaning."""

    values: NDArray[Any]  # integers (H, W)
    code_of_value: NDArray[Any] | None  # the code of each value; None: the values are codes


def read_labels(path: Source, meaning: Meaning, turn: int = UPRIGHT) -> Tensor:
    """Read the labels uint8 (H, W) of a mask; `turn` as for `read_mask`.

    Raises:
        UnknownCodesError: the mask holds codes without a meaning.
        DataError: it cannot be read, its encoding is lossy, or it holds colours in place of numbers or the reverse.
    """
    return labels_of(read_codes(path, meaning, turn), meaning, path)


def labels_of(coded: Coded, meaning: Meaning, path: Source) -> Tensor:
    """The labels uint8 (H, W) of a mask that was read from `path`.

    Raises:
        UnknownCodesError: the mask holds codes without a meaning.
    """
    values, code_of_value = coded
    if code_of_value is not None:
        labels = _looked_up(code_of_value, meaning).take(values)
    elif values.dtype == np.uint8:
        labels = _table(256, meaning.entries, _rest(meaning)).take(values)
    elif meaning.colors:
        labels = _table(1 << 24, meaning.entries, _rest(meaning)).take(values)
    else:
        labels = _looked_up(values, meaning)
    if meaning.rest is None and (wrong := labels == _UNKNOWN).any():
        row, column = np.argwhere(wrong)[0].tolist()
        found = Found(count_codes(coded), str(path), f"row {row}, column {column}")
        error = UnknownCodesError(message(meaning, found))
        error.found = found
        raise error
    return torch.from_numpy(labels)


def read_codes(path: Source, meaning: Meaning, turn: int = UPRIGHT) -> Coded:
    """Read a mask and bring it to the codes of a meaning; `turn` as for `read_mask`.

    Raises:
        DataError: as `read_labels`.
    """
    stored = read_mask(path, turn)
    if meaning.threshold is not None:
        shown = shades(stored)
        if not stored.lossy and shown.max(initial=0) == 1:
            raise DataError(f"{path}: the mask holds 0 and 1, not shades of grey; remove threshold")
        return Coded((shown >= meaning.threshold).astype(np.uint8), _bits(meaning))
    if stored.lossy:
        raise DataError(f"{path}: {lossy_mask(stored.lossy, meaning)}")
    values, palette = stored.values, stored.palette
    if stored.bits:
        return Coded(values, _bits(meaning))
    if values.ndim == 3:
        return _of_colour(values, meaning, path)
    if meaning.colors:
        if values.dtype != np.uint8:
            raise DataError(f"{path}: a mask of 16 bits, but classes gives colours; {_numbered(meaning, values)}")
        return Coded(values, _packed(palette) if palette is not None else _GREY * 0x010101)
    if palette is not None and meaning.white == WHITE and is_grey(palette):
        shown = palette[:, 0].astype(np.int64)
        if np.isin(shown[np.unique(values)], (0, WHITE)).all():
            return Coded(values, shown)
    return Coded(values, None)


def count_codes(coded: Coded) -> dict[int, int]:
    """The pixels of every code in a mask."""
    if coded.values.dtype == np.uint8:
        counts = np.bincount(coded.values.ravel(), minlength=256)
        values = counts.nonzero()[0]
        counts = counts[values]
    else:
        values, counts = np.unique(coded.values, return_counts=True)
    codes = values if coded.code_of_value is None else coded.code_of_value[values]
    found: dict[int, int] = {}
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        found[code] = found.get(code, 0) + count
    return found


def shades(stored: Stored) -> NDArray[np.uint8]:
    """A mask as it is shown, in shades of grey uint8 (H, W); of more than 8 bits, what exceeds white is white."""
    values = stored.values
    if stored.bits:
        return np.asarray(values * np.uint8(WHITE))
    if stored.palette is not None:
        return np.asarray(_shade(stored.palette).take(values))
    if values.ndim == 3:
        return _shade(values)
    return np.asarray(np.clip(values, 0, WHITE), dtype=np.uint8)


def lossy_mask(encoding: str, meaning: Meaning, how_many: str = "") -> str:
    """What is wrong with a mask in a lossy encoding, and the way on."""
    two = "; if there are none, in data.args set threshold: 128" if len(meaning.names) == 2 and not meaning.fix else ""
    return f"{encoding} changes labels{how_many}; use the original masks, saved as PNG{two}"


def _of_colour(pixels: NDArray[Any], meaning: Meaning, path: Source) -> Coded:
    if meaning.colors:
        return Coded(_packed(pixels, np.int32), None)
    if is_grey(pixels):
        return Coded(np.ascontiguousarray(pixels[..., 0]), None)
    listed = ", ".join(f"{name}: [r, g, b]" for name in meaning.names[:2])
    more = ", …" if len(meaning.names) > 2 else ""
    fix = meaning.fix or f"in data.args set classes: {{{listed}{more}}}"
    raise DataError(f"{path}: a mask in colour, but the classes are numbers; {fix}")


def _numbered(meaning: Meaning, values: NDArray[Any]) -> str:
    """How the classes are given as the numbers that a mask holds: in their order, if there are as many."""
    numbers, names = np.unique(values).tolist(), meaning.names
    if len(numbers) == len(names):
        listed = ", ".join(f"{yaml_word(name)}: {number}" for name, number in zip(names, numbers, strict=True))
        return f"in data.args set classes: {{{listed}}}"
    example = f"classes: {{{yaml_word(names[0])}: {numbers[0]}, …}}"
    return f"it holds {ranges(numbers)}: give the number of each class, such as {example}"


def _bits(meaning: Meaning) -> NDArray[np.int64]:
    return _BLACK_AND_WHITE if meaning.colors else np.array([0, meaning.white], dtype=np.int64)


def _shade(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The luma of RGB (…, 3), as every viewer computes it (ITU-R 601)."""
    return np.asarray((pixels.astype(np.uint32) @ np.array([299, 587, 114], dtype=np.uint32)) // 1000, dtype=np.uint8)


def _packed(pixels: NDArray[Any], kind: type[np.integer[Any]] = np.int64) -> NDArray[Any]:
    """RGB (…, 3) as one integer per pixel, 0xRRGGBB."""
    red, green, blue = np.moveaxis(pixels.astype(kind), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def _looked_up(codes: NDArray[Any], meaning: Meaning) -> NDArray[np.uint8]:
    """The label of each code, or _UNKNOWN."""
    keys, classes = np.array(meaning.entries, dtype=np.int64).T
    at = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
    return np.where(keys[at] == codes, classes[at], _rest(meaning)).astype(np.uint8)


def _rest(meaning: Meaning) -> int:
    return _UNKNOWN if meaning.rest is None else meaning.rest


@lru_cache(maxsize=4)  # a table of all colours takes 16 MB, but is ten times faster than a search
def _table(size: int, entries: tuple[tuple[int, int], ...], rest: int) -> NDArray[np.uint8]:
    table = np.full(size, rest, dtype=np.uint8)
    for code, label in entries:
        if 0 <= code < size:
            table[code] = label
    return table
