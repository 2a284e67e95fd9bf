"""What the labels of the splits contain, counted and reported before training."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from kd.data.dataset import component_name, read
from kd.errors import DataError
from kd.types import IGNORE, SegmentationDataset


class Survey(NamedTuple):
    """The labels of a split in numbers."""

    images: int  # counted
    total: int  # in the split
    pixels: int
    ignored: float  # share of the pixels, 0 … 1
    counts: tuple[int, ...]  # pixels of each class


def survey(dataset: SegmentationDataset, *, at_most: int = 500) -> Survey:
    """Count the labels of a split in `at_most` images spread evenly over it; also finds files that cannot be read.

    Raises:
        DataError: the split is empty; a sample cannot be read or breaks the dataset contract.
    """
    total = len(dataset)
    if total == 0:
        raise DataError(f"{component_name(dataset)}: the split is empty")
    indices = range(total) if total <= at_most else [i * total // at_most for i in range(at_most)]
    counts = torch.zeros(256, dtype=torch.int64)
    for index in indices:
        labels = read(dataset, index).labels
        if labels is not None:
            counts += torch.bincount(labels.flatten(), minlength=256)
    pixels = int(counts.sum())
    ignored = int(counts[IGNORE]) / pixels if pixels else 1.0
    return Survey(len(indices), total, pixels, ignored, tuple(counts[: len(dataset.class_names)].tolist()))


def summarize(train: Survey, val: Survey, class_names: Sequence[str]) -> list[str]:
    """Lines for the user before step 1: two with facts, then the warnings."""
    facts, warnings = [], []
    for split, (images, total, _, ignored, counts) in (("train", train), ("val", val)):
        missing = [name for name, count in zip(class_names, counts, strict=True) if not count]
        classes = f"missing classes: {', '.join(missing)}" if missing else "every class occurs"
        looked_at = f"{images} images" if images == total else f"{images} of {total} images"
        facts.append(f"{split}: {100 * ignored:.1f} % of the pixels are ignored; {classes} ({looked_at})")
        if ignored > 0.5:
            warnings.append(f"warning: {split}: more than half of the pixels are ignored ({100 * ignored:.1f} %)")
        if len(class_names) - len(missing) == 1:
            only = next(name for name in class_names if name not in missing)
            warnings.append(f"warning: {split}: the mean is over one class: only {only} occurs")
    return facts + warnings
