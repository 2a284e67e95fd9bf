"""Which validation images the page of a comparison shows."""

import math
from collections.abc import Container, Sequence
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.compare.comparison import Comparison, Entry
from kd.errors import RecipeError, did_you_mean
from kd.runs import SPLIT, read_counts, spread
from kd.runs.counts import COUNTS, TEACHER_COUNTS

PREDICTED = 12  # images of a page whose predictions no run has kept
LISTED = 4  # names in a message
KINDS = ("chosen", "best", "median", "worst", "spread")


class NoSuchImageError(RecipeError):
    """A user names an image that the split does not have."""


class Chosen(NamedTuple):
    """An image to show."""

    place: int  # in the dataset
    why: str  # one of KINDS
    difference: float | None  # of its mIoU, see `differences`; a share


class Known(NamedTuple):
    """What the runs have stored on the images of the split."""

    names: tuple[str, ...] = ()  # in the order of the dataset; empty where it is not stored
    differences: NDArray[np.float64] | None = None  # NaN for an image without labels


def known(comparison: Comparison, subject: Entry) -> Known:
    """The images of a split, and the subject's mIoU in each minus its baseline's, or without one its teacher's."""
    rival, file = comparison.get(subject.baseline), COUNTS
    if rival is None or not rival.run_dirs:
        rival, file = subject, TEACHER_COUNTS
    ours = read_counts(subject.run_dirs[0]).get(SPLIT)
    theirs = read_counts(rival.run_dirs[0], file).get(SPLIT)
    if ours is None:
        return Known()
    if theirs is None or (theirs := theirs.in_order_of(ours.names)).names != ours.names:
        return Known(ours.names)
    return Known(ours.names, image_miou(ours.counts) - image_miou(theirs.counts))


def image_miou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mIoU of each image (N,) over the classes that are labelled or predicted in it, of counts (N, K, 3)."""
    hits, predicted, labelled = np.moveaxis(counts, 2, 0)
    union = predicted + labelled - hits
    iou = np.where(union > 0, hits / np.maximum(union, 1), np.nan)
    some = np.where(labelled.sum(1) > 0, np.nansum(iou, 1), np.nan)
    return np.asarray(some / np.maximum((union > 0).sum(1), 1))


def find_named(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """The places of the images that a user names: whole, by the end of the path, or without the suffix.

    Raises:
        NoSuchImageError: no image has one of the names.
    """
    places: dict[int, None] = {}
    for text in wanted:
        parts = PurePath(text).parts
        found = [
            place
            for place, path in enumerate(map(PurePath, names))
            if parts in (path.parts[-len(parts) :], path.with_suffix("").parts[-len(parts) :])
        ]
        if not found:
            fix = did_you_mean(text, names) if len(names) <= LISTED else f"; such as {', '.join(names[:LISTED])}"
            raise NoSuchImageError(f"--image {text}: no {SPLIT} image has that name{fix}")
        places |= dict.fromkeys(found)
    return list(places)


def choose(
    known: Known, kept: Container[str], *, length: int, count: int | None = None, named: Sequence[int] = ()
) -> list[Chosen]:
    """Choose the images to show, those that are named first.

    Args:
        known: what the runs have stored; nothing where the dataset has changed since.
        kept: the names of the images whose predictions are kept: where they are enough, no other image is chosen.
        length: of the dataset.
        count: how many are shown; None: all that are kept, or `PREDICTED` where none is.
        named: places of images that are shown in any case.
    """
    places = [place for place, name in enumerate(known.names) if name in kept]
    count = count or len(places) or PREDICTED
    if len(places) < count:
        places = list(range(length))
    others = [place for place in places if place not in named]
    gain = known.differences
    first = [Chosen(place, "chosen", None if gain is None else _finite(gain[place])) for place in named]
    return first + choose_shown(others, max(0, count - len(first)), gain)


def choose_shown(places: Sequence[int], count: int, differences: NDArray[np.float64] | None) -> list[Chosen]:
    """Choose among images: those of the best, median and worst differences, and others spread evenly.

    Of twelve images or more, three are of each kind; of fewer, a quarter.

    Args:
        places: of the images to choose from, in the dataset.
        count: how many are shown, at most.
        differences: of every image of the dataset, NaN where there is none; None: all are spread evenly.
    """
    evenly = [places[index] for index in spread(len(places), count)] if count else []
    if differences is None:
        return [Chosen(place, "spread", None) for place in evenly]
    ranked = [place for place in places if not math.isnan(differences[place])]
    order = sorted(ranked, key=lambda place: (-differences[place], place))
    part = min(count, 12) // 4
    middle = max((len(order) - part) // 2, 0)
    chosen: dict[int, str] = {}
    for why, some in (("best", order[:part]), ("worst", order[::-1][:part]), ("median", order[middle:][:part])):
        chosen |= {place: why for place in some if place not in chosen}
    for place in evenly:
        if len(chosen) < count:
            chosen.setdefault(place, "spread")
    found = [Chosen(place, why, _finite(differences[place])) for place, why in chosen.items()]
    return sorted(found, key=lambda each: (KINDS.index(each.why), -(each.difference or 0.0), each.place))


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
