"""HC18: ultrasound images of fetal heads, with the size of their pixels."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.data.datasets.published import Found, Part, Published, Release, find, numbered
from kd.data.images.decode import size_text
from kd.data.images.names import raise_all
from kd.data.images.read import read_mask
from kd.data.masks.encoding import lossy_mask, shades
from kd.data.masks.meaning import Meaning
from kd.data.splits.shares import Share, Shares
from kd.errors import DataError
from kd.files.reading import read_text

NAMES = ("background", "head")
_LEAST = 8  # pixels of an outline that an ellipse is fitted to
_PIXELS = "training_set_pixel_size_and_HC.csv"


def HC18(  # noqa: N802  # recipes call every dataset as they call a class
    root: str,
    split: str,
    *,
    val: Share = None,
    test: Share = None,
    folds: int | None = None,
    fold: int | None = None,
) -> Published:
    """HC18: 999 grey ultrasound images with the outline of a fetal head, filled; pixels of 0.05 to 0.33 mm.

    "val", and "test" if `test` is given, are shares of the training set, chosen by a hash; the images of one
    pregnancy (`010_HC`, `010_2HC`) are in one split. Without `test`, "test" is the challenge's own: 335 images without
    labels. An outline that the edge of the image cuts is filled up to the ellipse that fits it best.
    `spacing(index)` is the height and width of a pixel in mm, which `kd.metrics.HausdorffDistance` and
    `SurfaceDistance` use.

    Source: van den Heuvel et al., "Automated measurement of fetal head circumference using 2D ultrasound images",
        PLoS ONE 13(8), 2018; zenodo.org/records/1327317, CC BY 4.0.

    Args:
        root: the folder that contains `training_set/`.
        split: "train", "val" or "test".
        val: share of the training set held out as "val", 0.2 or 20%; None is 20% if there are no `folds`.
        test: share of it held out as "test".
        folds: number of equal parts that all images but those of `test` are divided into, in place of `val`.
        fold: the part that is "val", counted from 0.

    Raises:
        ValueError: an argument is out of range or conflicts with another.
        DataError: a folder or the table of pixels is missing; an image has no outline or no pixel size; (by item) a
            file is damaged, or an outline is no ellipse.
    """
    shares = Shares("20%" if val is folds is None else val, test, folds, fold, owner="HC18")
    whole = split == "test" and test is None
    table = "test_set_pixel_size.csv" if whole else _PIXELS
    folder = "test_set" if whole else "training_set"
    part = Part(folder, None if whole else folder, mask_ending="_Annotation", read=read_outline, beside=table)
    items, notes = find(_RELEASE, part, root)
    if not whole:
        chosen = shares.of(list(items), split, {name: name.partition("_")[0] for name in items})
        items = {name: items[name] for name in chosen}
    pixels = _pixel_sizes(Path(root), table)
    raise_all([f"{Path(root) / table}: no pixel size of {name}.png" for name in items if name not in pixels])
    spacings = [(pixels[name], pixels[name]) for name in items]
    groups = [name.partition("_")[0] for name in items]
    beside = (Path(root) / table,)
    return Published(_RELEASE, split, [Found(items, notes)], groups=groups, spacings=spacings, beside=beside)


def _pixel_sizes(root: Path, table: str) -> Mapping[str, float]:
    """Name of an image -> the side of its pixels in mm."""
    path, sizes = root / table, dict[str, float]()
    text = read_text(path, "a table of pixel sizes", DataError, inside=root)
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split(",")
        if number == 1 or not line.strip():
            continue  # the titles: filename, pixel size(mm), …
        try:
            size = float(cells[1])
        except (IndexError, ValueError):
            size = math.nan
        if not 0 < size < math.inf:
            raise DataError(f"{path}:{number}: expected a file's name and its pixel size in mm, got {line[:80]}")
        sizes[cells[0].strip().removesuffix(".png")] = size
    return sizes


def read_outline(path: Path, meaning: Meaning, turn: int) -> Tensor:
    """The labels uint8 (H, W) of a mask that holds the outline of an object: the outline and what is inside are 1.

    Raises:
        DataError: the mask cannot be read, is in a lossy encoding, or its outline encloses nothing and is no part of an
            ellipse.
    """
    from scipy.ndimage import binary_fill_holes

    stored = read_mask(path, turn)
    if stored.lossy:
        raise DataError(f"{path}: {lossy_mask(stored.lossy, meaning)}")
    outline = shades(stored) > 0
    if not outline.any():
        return torch.zeros(outline.shape, dtype=torch.uint8)
    filled: NDArray[np.bool_] = binary_fill_holes(outline)
    if filled.sum() < 2 * outline.sum():  # the edge of the image cuts it
        filled = outline | _ellipse_through(outline, path)
    return torch.from_numpy(filled.astype(np.uint8))


def _ellipse_through(outline: NDArray[np.bool_], path: Path) -> NDArray[np.bool_]:
    """The inside of the ellipse that fits the outline best, by least squares of its equation.

    Source: Halir and Flusser, "Numerically Stable Direct Least Squares Fitting of Ellipses", WSCG 1998.
    """
    rows, columns = np.nonzero(outline)
    height, width = outline.shape
    if len(rows) < _LEAST:
        raise DataError(
            f"{path}: the outline has {len(rows)} pixels in an image of {size_text(outline.shape)}, too few"
        )
    centre, scale = np.array([columns.mean(), rows.mean()]), max(height, width)
    x, y = (columns - centre[0]) / scale, (rows - centre[1]) / scale
    squares, linear = np.stack([x * x, x * y, y * y], 1), np.stack([x, y, np.ones_like(x)], 1)
    try:
        to_linear = -np.linalg.solve(linear.T @ linear, linear.T @ squares)
        reduced = squares.T @ squares + squares.T @ linear @ to_linear
        _, vectors = np.linalg.eig(np.stack([reduced[2] / 2, -reduced[1], reduced[0] / 2]))
    except np.linalg.LinAlgError:
        vectors = np.zeros((3, 0))
    found = [v.real for v in vectors.T if 4 * v[0].real * v[2].real - v[1].real ** 2 > 0]
    if not found:
        raise DataError(f"{path}: the outline is open, and no ellipse fits it; close it")
    a, b, c = found[0]
    d, e, f = to_linear @ found[0]
    y, x = np.mgrid[:height, :width]
    x, y = (x - centre[0]) / scale, (y - centre[1]) / scale
    value = a * x * x + b * x * y + c * y * y + d * x + e * y + f
    inside: NDArray[np.bool_] = value * np.sign(a) <= 0
    return inside


_RELEASE = Release(
    "HC18",
    ((0, 0, 0), (230, 120, 60)),
    numbered(NAMES),
    f"training_set and {_PIXELS}",
    "get training_set.zip, its CSV and test_set.zip from zenodo.org/records/1327317, unpack them",
    channels=1,
)
