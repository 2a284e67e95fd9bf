"""The counts of each image in a score: `counts.npz`, and `teacher-counts.npz` of the teacher on the same images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.runs.arrays import Arrays, texts, write_arrays

COUNTS, TEACHER_COUNTS = "counts.npz", "teacher-counts.npz"

Counts = NDArray[np.int64]


class ImageCounts(NamedTuple):
    """The pixels of every image of a split, by class; summed over the images, they are sums of the confusion matrix."""

    names: tuple[str, ...]  # of the images, in the dataset's order
    counts: Counts  # int64 (images, K, 3): the intersection of labels and predictions, predicted, labelled
    groups: tuple[str, ...] | None = None  # of each image, where the dataset names groups that belong together

    def in_order_of(self, names: tuple[str, ...]) -> "ImageCounts":
        """The same images in another order of their names; as they are where these are others, or not unique."""
        places = {name: place for place, name in enumerate(self.names)}
        if self.names == names or sorted(self.names) != sorted(names) or len(places) < len(names):
            return self
        order = [places[name] for name in names]
        groups = None if self.groups is None else tuple(self.groups[place] for place in order)
        return ImageCounts(names, self.counts[order], groups)


def write_counts(file: Path, splits: Mapping[str, ImageCounts]) -> bytes:
    """Write the counts of each image, by split; the content of the file, empty where there are none."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, (images, counts, groups) in splits.items():
        arrays |= {name: counts, f"{name}/names": np.array(images, np.str_)}
        arrays |= {} if groups is None else {f"{name}/groups": np.array(groups, np.str_)}
    return write_arrays(file, arrays) if arrays else b""


def counts_in(arrays: Arrays) -> dict[str, ImageCounts]:
    """The counts of each image in the arrays of a file, by split.

    Raises:
        ValueError: an array is something else.
    """
    splits = [name for name in arrays if f"{name}/names" in arrays]
    return {
        name: _image_counts(texts(arrays[f"{name}/names"]), arrays[name], arrays.get(f"{name}/groups"))
        for name in splits
    }


def _image_counts(names: tuple[str, ...], counts: NDArray[Any], groups: NDArray[Any] | None) -> ImageCounts:
    if counts.dtype != np.int64 or counts.ndim != 3 or counts.shape[::2] != (len(names), 3):
        raise ValueError(f"{counts.dtype} {counts.shape} are not the counts of {len(names)} images")
    if (counts < 0).any():
        raise ValueError("a count is below 0")
    if groups is not None and groups.shape != (len(names),):
        raise ValueError(f"{groups.dtype} {groups.shape} are not the groups of {len(names)} images")
    return ImageCounts(names, counts, None if groups is None else texts(groups))
