"""The differences between the networks of a comparison, over the seeds and images that both have."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd.compare.comparison import Difference, Entry, mean_iou_by_class
from kd.errors import StorageError
from kd.intervals import Interval, closed, intervals, labelled_groups
from kd.metrics import scores
from kd.runs import SPLIT, ImageCounts, SplitResult, read_counts
from kd.runs.counts import COUNTS, TEACHER_COUNTS


@dataclass
class Pairing:
    """Pairs the runs of networks by seed; each file of counts is read once.

    Attributes:
        damaged: why files of counts cannot be read; a difference that needs one of them has no interval.
    """

    damaged: list[str] = field(default_factory=list)
    _counts: dict[tuple[Path, str], ImageCounts | None] = field(default_factory=dict)

    def with_baseline(self, student: Entry, baseline: Entry) -> Difference | None:
        """The student minus its baseline; None if they have no seed in common."""
        seeds = tuple(seed for seed in student.seeds if seed in baseline.seeds)
        if not seeds:
            return None
        ours, theirs = ([entry.seeds.index(seed) for seed in seeds] for entry in (student, baseline))
        return _difference(
            seeds,
            [student.splits[index] for index in ours],
            [baseline.splits[index] for index in theirs],
            self._of(student, ours),
            self._of(baseline, theirs),
        )

    def with_teacher(self, student: Entry) -> Difference:
        """The student minus its teacher: in each of its runs, the one that taught that run."""
        everywhere = range(len(student.seeds))
        return _difference(
            student.seeds,
            student.splits,
            student.taught,
            self._of(student, everywhere),
            self._of(student, everywhere, TEACHER_COUNTS),
        )

    def closed(self, student: Entry, baseline: Entry) -> Interval | None:
        """The share of the teacher's lead over the baseline that the student has closed, see `intervals.closed`."""
        seeds = [seed for seed in student.seeds if seed in baseline.seeds]
        ours, theirs = ([entry.seeds.index(seed) for seed in seeds] for entry in (student, baseline))
        found = [self._of(student, ours), self._of(baseline, theirs), self._of(student, ours, TEACHER_COUNTS)]
        paired = _paired([images for each in found for images in each])
        if not seeds or paired is None:
            return None
        arrays, groups = paired
        number = len(seeds)
        return closed(arrays[:number], arrays[number : 2 * number], arrays[2 * number :], groups)

    def _of(self, entry: Entry, places: Sequence[int], name: str = COUNTS) -> list[ImageCounts | None]:
        """The counts of some of an entry's runs."""
        return [self._read(entry.run_dirs[place], name) for place in places]

    def _read(self, run_dir: Path, name: str) -> ImageCounts | None:
        if (run_dir, name) not in self._counts:
            try:
                self._counts[run_dir, name] = read_counts(run_dir, name).get(SPLIT)
            except StorageError as error:
                self._counts[run_dir, name] = None
                self.damaged.append(str(error))
        return self._counts[run_dir, name]


def _difference(
    seeds: Sequence[int],
    ours: Sequence[SplitResult],
    theirs: Sequence[SplitResult],
    our_images: Sequence[ImageCounts | None],
    their_images: Sequence[ImageCounts | None],
) -> Difference:
    after, before = (np.mean([scores(split.confusion).miou for split in side]) for side in (ours, theirs))
    classes = zip(mean_iou_by_class(ours), mean_iou_by_class(theirs), strict=True)
    difference = Difference(
        value=float(after - before),
        seeds=tuple(seeds),
        before=float(before),
        classes=tuple(None if ours is None or theirs is None else ours - theirs for ours, theirs in classes),
    )
    paired = _paired([*our_images, *their_images])
    if paired is None:
        return difference
    arrays, groups = paired
    terms = [(1.0, arrays[: len(seeds)]), (-1.0, arrays[len(seeds) :])]
    of_mean, *of_classes = intervals(terms, groups)
    alone = labelled_groups(arrays[0], groups) < 2
    known = (
        each._replace(image_variance=math.nan) if one else each for each, one in zip(of_classes, alone, strict=True)
    )
    return difference._replace(interval=of_mean, class_intervals=tuple(known))


def _paired(
    images: Sequence[ImageCounts | None],
) -> tuple[list[NDArray[np.int64]], tuple[str, ...] | None] | None:
    """The counts of runs on the same images, and the images' groups; None without images, or if they differ.

    The images are in the first run's order. Where runs name other groups, or none, the fewest count: images that one
    of them calls dependent are so in all.
    """
    counted = [each for each in images if each is not None]
    if len(counted) != len(images) or not counted or not counted[0].names:
        return None
    known = [each.in_order_of(counted[0].names) for each in counted]
    labelled = known[0].counts[..., 2]
    if any(not np.array_equal(each.counts[..., 2], labelled) for each in known):
        return None
    groups = (each.groups for each in known if each.groups is not None)
    return [each.counts for each in known], min(groups, key=lambda named: len(set(named)), default=None)
