"""The masks that may fit an image better than its own: turned, moved, with exchanged classes."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kd.prepare.defects.copies import GRID
from kd.prepare.defects.measures import BOUNDARY, Cells, Slopes, boundary_of
from kd.types import IGNORE

REACH = GRID // 4  # cells: the largest shift

TURNS: dict[str, Callable[[Cells], Cells]] = {
    "flipped left to right": lambda labels: labels[:, ::-1],
    "flipped top to bottom": lambda labels: labels[::-1],
    "turned by 180°": lambda labels: labels[::-1, ::-1],
}


def move(labels: Cells, down: int, right: int) -> Cells:
    """The mask moved by cells; what is uncovered is ignored."""
    moved = np.full_like(labels, IGNORE)
    rows, columns = ((slice(max(d, 0), GRID + min(d, 0)), slice(max(-d, 0), GRID + min(-d, 0))) for d in (down, right))
    moved[rows[0], columns[0]] = labels[rows[1], columns[1]]
    return moved


def exchange(labels: Cells, first: int, second: int) -> Cells:
    """The mask with two classes exchanged."""
    swapped = labels.copy()
    swapped[labels == first], swapped[labels == second] = second, first
    return swapped


def correlation(edges: Slopes, labels: Cells) -> NDArray[np.float64]:
    """The mean slope under the boundary of the mask moved by -REACH … REACH cells; (rows, columns)."""
    boundary = boundary_of(labels)
    spectrum = np.fft.rfft2(edges - edges.mean()) * np.conj(np.fft.rfft2(boundary))
    values = np.fft.fftshift(np.fft.irfft2(spectrum, (GRID, GRID))) / max(int(boundary.sum()), BOUNDARY)
    middle = slice(GRID // 2 - REACH, GRID // 2 + REACH + 1)
    return np.asarray(values[middle, middle])


def peak(values: NDArray[np.float64]) -> tuple[int, int]:
    """The shift of the largest correlation, (down, right)."""
    row, column = divmod(int(values.argmax()), values.shape[1])
    return row - REACH, column - REACH


def climbed(value: Callable[[int, int], float]) -> tuple[int, int]:
    """The shift of the largest value that is found by going uphill in ever smaller steps."""
    best, at = value(0, 0), (0, 0)
    for step in (8, 4, 2, 1):
        while True:
            ways = [(at[0] + down * step, at[1] + right * step) for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))]
            values = [(value(*way), way) for way in ways if max(map(abs, way)) <= REACH]
            if not values or max(values)[0] <= best:
                break
            best, at = max(values)
    return at


def direction(down: int, right: int) -> str:
    """A shift in words: by which share of the height and of the width."""
    parts = [
        f"{100 * abs(cells) / GRID:.0f} % of the {side} {way[cells > 0]}"
        for cells, side, way in ((down, "height", ("up", "down")), (right, "width", ("left", "right")))
        if cells
    ]
    return " and ".join(parts)
