"""The predictions that a run keeps for the page of a comparison: `predictions.npz`, of some validation images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.files.manifest import has_file
from kd.runs.arrays import Arrays, read_arrays, texts, write_arrays

PREDICTIONS = "predictions.npz"
KEPT = 24  # images, at most
MOST = 50_000_000  # pixels of all maps of one network, at most

Maps = Mapping[str, NDArray[np.uint8]]  # predicted classes (H, W) at the image's own size, by the image's name


def spread(length: int, count: int) -> list[int]:
    """`count` positions spread evenly over 0 … length-1, each in the middle of its share; or all, if they are fewer."""
    if length <= count:
        return list(range(length))
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]


def write_predictions(run_dir: Path, own: Maps, teacher: Maps) -> None:
    """Write the maps of a run's network and of its teacher."""
    arrays: dict[str, NDArray[Any]] = {}
    for of, maps in (("own", own), ("teacher", teacher)):
        arrays[f"{of}/names"] = np.array(list(maps), np.str_)
        arrays |= {f"{of}/{index}": predicted for index, predicted in enumerate(maps.values())}
    write_arrays(run_dir / PREDICTIONS, arrays)


def read_predictions(run_dir: Path) -> tuple[Maps, Maps]:
    """Read the maps of a run's network and of its teacher; none if the run has not kept them.

    Raises:
        StorageError: the file is damaged.
    """
    if not has_file(run_dir, PREDICTIONS):
        return {}, {}
    return read_arrays(run_dir, PREDICTIONS, _both, limit=3 * MOST)


def _both(arrays: Arrays) -> tuple[Maps, Maps]:
    return _maps(arrays, "own"), _maps(arrays, "teacher")


def _maps(arrays: Arrays, of: str) -> Maps:
    maps = {name: arrays[f"{of}/{index}"] for index, name in enumerate(texts(arrays[f"{of}/names"]))}
    for predicted in maps.values():
        if predicted.dtype != np.uint8 or predicted.ndim != 2:
            raise ValueError(f"{predicted.dtype} {predicted.shape} is no label map")
    return maps
