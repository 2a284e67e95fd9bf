"""What the labels of the splits contain, counted and reported before training."""

import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.data.dataset import component_name, read_labels
from kd.data.workers import Key, read_beside
from kd.errors import DataError
from kd.types import IGNORE, SegmentationDataset
from kd.units import counted

WEIGHED = 500  # images that weigh the classes: the first in order, so the weights do not depend on the time
SECONDS = 30.0  # for a split; afterwards the rest is left out, and this is said
ALONE = 1.0  # seconds, after which the workers help if what is left takes longer than `WORTHWHILE`
WORTHWHILE = 5.0  # seconds: starting workers, and sending their tallies, takes some itself
_IMAGES, _LABELLED = 256, 257  # columns of a tally, after the pixels of each label
_CHUNK = 64  # images whose tally a worker sends


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
    begun: Generator[NDArray[np.int64]] | None = None,
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
        begun: what `begin_survey` returned for this split.

    Raises:
        DataError: the split is empty; a sample cannot be read or breaks the dataset contract.
    """
    total = len(dataset)
    if total == 0:
        raise DataError(f"{component_name(dataset)}: the split is empty")
    deadline = time.monotonic() + seconds
    tally = np.zeros((2, 258), np.int64)  # of all images counted; of those that weigh
    position, tallies = rank, begun or _tallies(dataset, _share(total, rank, world), workers)
    for part in tallies:
        if position >= WEIGHED and time.monotonic() > deadline:
            tallies.close()
            break
        tally[: 2 if position < WEIGHED else 1] += part
        position += world * int(part[_IMAGES])
        advance(min(position, total))
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


def begin_survey(
    dataset: SegmentationDataset, *, workers: int, rank: int = 0, world: int = 1
) -> Generator[NDArray[np.int64]]:
    """Let at least one worker count a split beside what follows; `survey` takes the result. Arguments as there."""
    return _from_workers(_Source(dataset), _share(len(dataset), rank, world), workers)


class _Share(NamedTuple):
    """The indices that a process counts, in order."""

    weighing: list[int]  # its part of `WEIGHED`, which are evenly spread
    others: list[int]  # at random


def _share(total: int, rank: int, world: int) -> _Share:
    weighing = [number * total // WEIGHED for number in range(WEIGHED)] if total > WEIGHED else list(range(total))
    others = sorted(set(range(total)) - set(weighing))
    mixed = torch.randperm(len(others), generator=torch.Generator().manual_seed(0)).tolist()
    skipped = (rank - len(weighing)) % world
    return _Share(weighing[rank::world], [others[number] for number in mixed][skipped::world])


class _Source:
    """The tally of each image: pixels by label, 1, and whether any pixel is labelled."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> NDArray[np.int64]:
        row, labels = np.zeros(258, np.int64), read_labels(self.dataset, key[0])
        row[_IMAGES] = 1
        if labels is not None:
            row[:256] = np.bincount(labels.numpy().ravel(), minlength=256)
            row[_LABELLED] = row[:IGNORE].any()
        return row


def _tallies(dataset: SegmentationDataset, share: _Share, workers: int) -> Generator[NDArray[np.int64]]:
    """The tallies of a share, in order: of one image each; workers read what takes long, several images each."""
    source, began, total = _Source(dataset), time.monotonic(), len(share.weighing) + len(share.others)
    for done, index in enumerate(chain(*share), start=1):
        yield source[index, 0]
        spent = time.monotonic() - began
        if workers and spent > ALONE and spent / done * (total - done) > WORTHWHILE:
            weighed = max(done - len(share.weighing), 0)
            yield from _from_workers(source, _Share(share.weighing[done:], share.others[weighed:]), workers)
            return


def _from_workers(source: _Source, share: _Share, workers: int) -> Generator[NDArray[np.int64]]:
    """The tallies of a share by workers, which start at once and do not wait until they are asked."""
    chunks = [
        [(index, 0) for index in part[start : start + _CHUNK]]
        for part in share
        for start in range(0, len(part), _CHUNK)
    ]
    return read_beside(source, partial(np.sum, axis=0), chunks, workers)


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
