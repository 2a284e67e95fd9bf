"""What the labels of the splits contain, counted and reported before training."""

import time
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kd.data.dataset import component_name, read_labels
from kd.data.workers import Key, Reader, read_batches
from kd.errors import DataError
from kd.types import IGNORE, SegmentationDataset
from kd.units import counted

WEIGHED = 500  # images that weigh the classes: the first in order, so the weights do not depend on the time
SECONDS = 30.0  # for a split; afterwards the rest is left out, and this is said
ALONE = 1.0  # seconds, after which the workers help if what is left takes longer than `WORTHWHILE`
WORTHWHILE = 5.0  # seconds: starting workers, and sending their tallies, takes some itself
_IMAGES, _LABELLED = 256, 257  # columns of a tally, after the pixels of each label
_CHUNK = 64  # images whose tallies a worker sends together


class Survey(NamedTuple):
    """The labels of a split in numbers."""

    images: int  # counted
    total: int  # in the split
    pixels: int
    ignored: float  # share of the pixels, 0 … 1
    counts: tuple[int, ...]  # pixels of each class
    labelled: int  # images with at least one labelled pixel
    weighing: tuple[int, ...]  # pixels of each class in the first `WEIGHED` images counted


def survey(
    dataset: SegmentationDataset,
    *,
    workers: int = 0,
    seconds: float = SECONDS,
    rank: int = 0,
    world: int = 1,
    summed: Callable[[Tensor], Tensor] = lambda tally: tally,
    advance: Callable[[int], None] = lambda counted: None,
) -> Survey:
    """Count the labels of a split: of all images, or of as many as the time allows, spread evenly over it.

    Args:
        dataset: one split.
        workers: processes that read; 0 reads in this one.
        seconds: the time for it; the first `WEIGHED` images are counted however long it takes.
        rank: of this process, which counts every `world`-th image.
        world: number of processes.
        summed: the sum of a tensor over all processes.
        advance: called with the number of images that all processes have counted so far, about.

    Raises:
        DataError: the split is empty; a sample cannot be read or breaks the dataset contract.
    """
    total = len(dataset)
    if total == 0:
        raise DataError(f"{component_name(dataset)}: the split is empty")
    order, deadline = _order(total), time.monotonic() + seconds
    tally = np.zeros((2, 258), np.int64)  # of all images counted; of those that weigh
    positions = range(rank, total, world)
    rows = _rows(dataset, [order[position] for position in positions], workers)
    for position, row in zip(positions, rows, strict=False):
        if position >= WEIGHED and time.monotonic() > deadline:
            rows.close()
            break
        tally[: 2 if position < WEIGHED else 1] += row.numpy()
        advance(position + 1)
    (pixels, weighing), classes = summed(torch.from_numpy(tally)), len(dataset.class_names)
    all_pixels = int(pixels[:256].sum())
    return Survey(
        images=int(pixels[_IMAGES]),
        total=total,
        pixels=all_pixels,
        ignored=int(pixels[IGNORE]) / all_pixels if all_pixels else 1.0,
        counts=tuple(pixels[:classes].tolist()),
        labelled=int(pixels[_LABELLED]),
        weighing=tuple(weighing[:classes].tolist()),
    )


def _order(total: int) -> list[int]:
    """All indices: first `WEIGHED` of them, evenly spread; then the others in random order."""
    if total <= WEIGHED:
        return list(range(total))
    first = [number * total // WEIGHED for number in range(WEIGHED)]
    others = sorted(set(range(total)) - set(first))
    mixed = torch.randperm(len(others), generator=torch.Generator().manual_seed(0)).tolist()
    return first + [others[number] for number in mixed]


class _Rows:
    """The tally of each image: pixels by label, 1, and whether any pixel is labelled."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Tensor:
        row, labels = np.zeros(258, np.int64), read_labels(self.dataset, key[0])
        row[_IMAGES] = 1
        if labels is not None:
            row[:256] = np.bincount(labels.numpy().ravel(), minlength=256)
            row[_LABELLED] = row[:IGNORE].any()
        return torch.from_numpy(row)


def _rows(dataset: SegmentationDataset, indices: Sequence[int], workers: int) -> Generator[Tensor]:
    """The tallies of these images, in order; workers read what takes long."""
    rows, left, began = _Rows(dataset), iter(indices), time.monotonic()
    for done, index in enumerate(left, start=1):
        yield rows[index, 0]
        spent = time.monotonic() - began
        if workers and spent > ALONE and spent / done * (len(indices) - done) > WORTHWHILE:
            break
    keys = [[(index, 0) for index in chunk] for chunk in iter(lambda: list(islice(left, _CHUNK)), [])]
    if keys:
        reader = Reader(rows, torch.stack, workers)
        for batch in read_batches(reader, iter(keys), workers, 300, None, False, lambda: None):
            yield from batch


def summarize(train: Survey, val: Survey, class_names: Sequence[str]) -> list[str]:
    """Lines for the user before step 1: two with facts, then the warnings."""
    facts, warnings = [], []
    for split, found in (("train", train), ("val", val)):
        missing = [name for name, count in zip(class_names, found.counts, strict=True) if not count]
        classes = f"missing classes: {', '.join(missing)}" if missing else "every class occurs"
        looked_at = counted(found.images, "image")
        if found.images < found.total:
            looked_at = f"{found.images} of {found.total} images, as many as {SECONDS:.0f} s allow"
        if found.labelled == 0:
            facts.append(f"{split}: no pixel is labelled ({looked_at})")
            continue
        facts.append(f"{split}: {100 * found.ignored:.1f} % of the pixels are ignored; {classes} ({looked_at})")
        if found.ignored > 0.5:
            warnings.append(f"warning: {split}: more than half of the pixels are ignored ({100 * found.ignored:.1f} %)")
        if len(class_names) - len(missing) == 1:
            only = next(name for name in class_names if name not in missing)
            warnings.append(f"warning: {split}: the mean is over one class: only {only} occurs")
    return facts + warnings
