"""The two measures of a mask on an image, by the cells of their small copies: colour and edges."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kd.prepare.defects.copies import CODES, Look
from kd.types import IGNORE

BOUNDARY = 20  # cells: a mask with less boundary has no edges to compare

Cells = NDArray[np.uint8]  # the labels of a small copy
Codes = NDArray[np.uint16]
Slopes = NDArray[np.float32]


def boundary_of(labels: Cells) -> NDArray[np.bool_]:
    """The cells that differ from the one above or to the left; ignored ones bound nothing."""
    boundary = np.zeros(labels.shape, bool)
    known = labels != IGNORE
    boundary[1:] |= (labels[1:] != labels[:-1]) & known[1:] & known[:-1]
    boundary[:, 1:] |= (labels[:, 1:] != labels[:, :-1]) & known[:, 1:] & known[:, :-1]
    return boundary


def smoothed(look: Look) -> Slopes:
    """The slope of an image in units of its mean, averaged over 3×3 cells."""
    padded = np.pad(np.asarray(look.edges / 64, np.float32), 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9, np.float32)


def edges_of_all(edges: Sequence[Slopes], masks: Sequence[Cells]) -> list[float]:
    """The measure of edges of each image."""
    return [slope(slopes, labels) for slopes, labels in zip(edges, masks, strict=True)]


def slope(slopes: Slopes, labels: Cells) -> float:
    """The mean slope at the boundaries of a mask; 1, the mean of the image, where there is hardly a boundary."""
    boundary = boundary_of(labels)
    return float(slopes[boundary].mean()) if boundary.sum() >= BOUNDARY else 1.0


def colors_of_all(codes: Sequence[Codes], masks: Sequence[Cells], classes: int) -> NDArray[np.float64]:
    """The measure of colour of each image, by the counts of all others."""
    counts = [count(*pair, classes) for pair in zip(codes, masks, strict=True)]
    total = np.sum(counts, axis=0, dtype=np.int64)
    return np.array([float((own * table(total - own)).sum()) / max(int(own.sum()), 1) for own in counts])


def likelier(table: NDArray[np.float64], codes: Codes, labels: Cells) -> float:
    """The mean of a table over the labelled cells; 0 without any."""
    known = labels < len(table)
    return float(table[labels[known], codes[known]].mean()) if known.any() else 0.0


def count(codes: Codes, labels: Cells, classes: int) -> NDArray[np.int64]:
    """The cells of each class and code, (K, CODES)."""
    known = labels < classes
    cells = labels[known].astype(np.int64) * CODES + codes[known]
    return np.bincount(cells, minlength=classes * CODES).reshape(classes, CODES)


def table(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The logarithm of p(code | class) / p(code), (K, CODES); classes with few cells tell little."""
    cells = counts.sum(1, keepdims=True)
    code = (counts.sum(0) + 0.1) / (counts.sum() + 0.1 * CODES)
    prior = 0.1 * cells.mean() / len(counts) + 1
    likelier: NDArray[np.float64] = (counts + prior * code) / (cells + prior) / code
    return np.log(likelier)
