"""Outlines and run lengths as pixels. A pixel belongs to an outline if its centre does: column + ½, row + ½."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kd.constants import IGNORE
from kd.errors import shown
from kd.prepare.faults import damaged, misdrawn

MAX_CROSSINGS = 2**22  # of an outline with rows: an outline around every pixel of a large photo has fewer
MAX_COORDINATE = 1e7

Region = NDArray[np.bool_]  # (H, W)


def fill(polygons: Sequence[NDArray[np.float64]], size: tuple[int, int], where: str, *, holes: bool = False) -> Region:
    """The pixels within polygons, by the even-odd rule in each; parts outside the image are cut off.

    Args:
        polygons: of one object, (points, 2) each: x, y in pixels; those of fewer than 3 points enclose nothing.
        size: (H, W).
        where: the object, for the message.
        holes: whether a polygon within another cuts a hole; else their union counts.

    Raises:
        DataError: a coordinate is not finite or out of range; a polygon crosses too many rows.
    """
    region = np.zeros(size, dtype=bool)
    for points in polygons:
        check_coordinates(points, where)
        if len(points) >= 3:
            _fill_one(region, points, where, holes)
    return region


def check_coordinates(points: NDArray[np.float64], where: str) -> None:
    """Refuse points that no image has.

    Raises:
        DataError: a coordinate is not finite or beyond `MAX_COORDINATE`.
    """
    if not np.isfinite(points).all() or (np.abs(points) > MAX_COORDINATE).any():
        raise misdrawn(where, f"a coordinate beyond {MAX_COORDINATE:,.0f}")


def _fill_one(region: Region, points: NDArray[np.float64], where: str, holes: bool) -> None:
    height, width = region.shape
    x, y = points.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, height).astype(np.int64)  # rows whose centre an edge meets
    last = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, height).astype(np.int64)
    counts = last - first
    total = int(counts.sum())
    if total > MAX_CROSSINGS:
        raise misdrawn(where, f"an outline that crosses {total:,} rows (the limit is {MAX_CROSSINGS:,})")
    if total == 0:
        return
    edge = np.repeat(np.arange(len(x)), counts)
    row = first[edge] + np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    at = x[edge] + (row + 0.5 - y[edge]) * ((next_x - x)[edge] / (next_y - y)[edge])
    column = np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)
    top, bottom = int(row.min()), int(row.max()) + 1
    turns = np.zeros((bottom - top, width + 1), dtype=np.uint8)
    np.bitwise_xor.at(turns, (row - top, column), 1)
    inside = np.bitwise_xor.accumulate(turns, axis=1)[:, :width].astype(bool)
    if holes:
        region[top:bottom] ^= inside
    else:
        region[top:bottom] |= inside


def area_of(polygons: Sequence[NDArray[np.float64]]) -> float:
    """The area of polygons in square pixels, overlaps counted twice."""
    total = 0.0
    for points in polygons:
        x, y = points.T
        total += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return total


def disc(center: tuple[float, float], radius: float, size: tuple[int, int]) -> Region:
    """The pixels whose centre is at most `radius` from `center` (x, y)."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    return np.asarray((columns + 0.5 - center[0]) ** 2 + (rows + 0.5 - center[1]) ** 2 <= radius**2)


def run_lengths(counts: Sequence[int], size: tuple[int, int], where: str) -> Region:
    """COCO's run lengths: alternately pixels outside and inside, down the columns, the first column first.

    Raises:
        DataError: a count is negative, or they do not add up to the pixels of the image.
    """
    runs = np.array(counts, dtype=object) if any(abs(count) > 2**40 for count in counts) else np.array(counts, np.int64)
    pixels = size[0] * size[1]
    if len(runs) > pixels + 1 or (len(runs) and min(counts) < 0) or sum(counts) != pixels:
        raise damaged(where, f"{len(runs)} run lengths of {shown(sum(counts))} pixels, but the image has {pixels}")
    values = (np.arange(len(runs)) % 2).astype(bool)
    return np.repeat(values, runs.astype(np.int64)).reshape(size[1], size[0]).T


def unpacked(text: str, where: str) -> list[int]:
    """The counts of COCO's compressed run lengths: 5 bits a character, low ones first; from the third on, differences.

    Raises:
        DataError: a character that does not belong there, a number that does not end or is too long.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 35:
            raise damaged(where, f"damaged run lengths (character {character!r})")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise damaged(where, "damaged run lengths (cut off)")
    return counts


class Shape:
    """An object to be painted.

    Args:
        label: class index, or IGNORE.
        area: in pixels, for the order.
        region: its pixels, computed when it is painted.
        crowd: whether it lies below all others.
    """

    def __init__(self, label: int, area: float, region: Callable[[], Region], crowd: bool = False) -> None:
        self.label, self.area, self.region, self.crowd = label, area, region, crowd


def paint(shapes: Sequence[Shape], size: tuple[int, int], *, by_area: bool) -> NDArray[np.uint8]:
    """A mask with the objects on background 0, crowds lowest.

    Args:
        shapes: in the order of the file.
        size: (H, W).
        by_area: the smaller of two objects that overlap is on top; else the later one.
    """
    mask = np.zeros(size, dtype=np.uint8)
    order = sorted(shapes, key=lambda shape: -shape.area) if by_area else list(shapes)
    for shape in sorted(order, key=lambda shape: not shape.crowd):
        mask[shape.region()] = IGNORE if shape.crowd else shape.label
    return mask
