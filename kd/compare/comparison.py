"""The data of a comparison: networks that were scored on the same images, their gains and the notes."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from kd.intervals import LEVEL, Interval, holm
from kd.metrics import Scores, scores
from kd.runs import ResultInputs, SplitResult

# "alone": trained from labels alone, and not the baseline of a student in the same comparison.
Role = Literal["teacher", "baseline", "alone", "student"]
ORDER: tuple[Role, ...] = ("teacher", "baseline", "alone", "student")

ScoreName = Literal["miou", "pixel_accuracy", "mean_accuracy", "mean_dice"]
SCORES: tuple[ScoreName, ...] = ("miou", "pixel_accuracy", "mean_accuracy", "mean_dice")

SAME_SCORE = 5e-4  # of mIoU: scores of one network differ by less, in the last digits of a GPU


class Figure(NamedTuple):
    """A score over seeds."""

    values: tuple[float, ...]  # one a seed; NaN where the score is not defined

    @property
    def mean(self) -> float:
        """NaN unless it is defined for every seed."""
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation; None for one seed, NaN where the mean is."""
        if len(self.values) == 1:
            return None
        return math.nan if math.isnan(self.mean) else statistics.stdev(self.values)


class MetricFigures(NamedTuple):
    """A further metric over seeds."""

    unit: str  # "%": the values are shares from 0 to 1
    direction: str  # "higher" or "lower": which is better
    figures: dict[str, Figure]  # the metric's values by name; tables show the first

    @property
    def headline(self) -> Figure:
        """The figure that tables show."""
        return next(iter(self.figures.values()))


class Difference(NamedTuple):
    """One network's mIoU minus another's, over the seeds that both have; shares from 0 to 1."""

    value: float  # the mean over those seeds
    seeds: tuple[int, ...]
    before: float  # the other's mIoU over those seeds
    classes: tuple[float | None, ...]  # of the IoU of each class; None where either has none
    interval: Interval | None = None  # None where the counts of the images are not stored
    class_intervals: tuple[Interval, ...] = ()  # of `classes`


class Latencies(NamedTuple):
    """What a forward pass of one image takes, where it is known."""

    milliseconds: Mapping[str, float]  # by key of an entry
    how: str  # they were measured, all alike


NO_LATENCIES = Latencies({}, "")


class Note(NamedTuple):
    """A line for the user, below the tables."""

    kind: Literal[
        "start",
        "damaged",
        "not verified",
        "teacher",
        "unfinished",
        "no baseline",
        "seeds differ",
        "absent",
        "one class",
        "best step",
        "one seed",
        "inputs",
        "no interval",
        "few groups",
        "budget",
        "latency",
        "metric",
    ]
    text: str


@dataclass(frozen=True)
class Entry:
    """One network of a comparison: one row, all its seeds together."""

    key: str  # its `folder`, and what distinguishes it from other rows of that; unique in a comparison
    role: Role
    name: str  # the recipe's stem
    network: str
    splits: tuple[SplitResult, ...]  # one a seed
    parameters: int
    run_dirs: tuple[Path, ...] = ()  # finished run directories, one a seed; none for a teacher without a run
    seeds: tuple[int, ...] = ()
    unread: tuple[int, ...] = ()  # further seeds, finished in the same folder, that are not compared
    seconds: float | None = None  # of training, the mean over seeds
    images_per_second: float | None = None  # evaluations included, the mean over seeds
    images_seen: float | None = None  # in training, the mean over seeds
    peak_memory: int | None = None  # bytes, the highest of all seeds
    select: str = "last"  # which weights were scored: "last" or "best"
    marks: tuple[str, ...] = ()  # on the inputs of its runs: what was accepted, what was not recorded
    inputs: tuple[ResultInputs | None, ...] = ()  # what its runs read, one a seed; None: not recorded
    taught: tuple[SplitResult, ...] = ()  # its teacher's score in each of its runs, one a seed
    teacher: str | None = None  # key of the teacher's entry
    baseline: str | None = None  # key of the baseline's entry; None where no baseline has finished

    @property
    def folder(self) -> str:
        """`<stem>-<id>`, the folder of its runs; of a network without a run, its name."""
        return self.run_dirs[0].parent.name if self.run_dirs else self.name

    @property
    def id(self) -> str:
        """The id of its recipe; of a network without a run, its name."""
        return self.folder.rpartition("-")[2] if self.run_dirs else self.name

    @cached_property
    def scores(self) -> tuple[Scores, ...]:
        """The scores of each seed."""
        return tuple(scores(split.confusion) for split in self.splits)

    def figure(self, name: ScoreName) -> Figure:
        """One of the `Scores` over the seeds, shares from 0 to 1."""
        return Figure(tuple(getattr(result, name) for result in self.scores))

    @property
    def miou(self) -> float:
        """Mean over the seeds, a share."""
        return self.figure("miou").mean

    @cached_property
    def iou(self) -> tuple[float | None, ...]:
        """Each class's IoU, the mean over the seeds that have one; None where none has."""
        return mean_iou_by_class(self.splits)

    @cached_property
    def metrics(self) -> dict[str, MetricFigures]:
        """The further metrics that every seed was scored with, by label."""
        by_label: dict[str, MetricFigures] = {}
        for label, first in self.splits[0].metrics.items():
            if all(label in split.metrics for split in self.splits):
                seeds = [split.metrics[label].values for split in self.splits]
                figures = {name: _figure([values.get(name) for values in seeds]) for name in first.values}
                by_label[label] = MetricFigures(first.unit, first.direction, figures)
        return by_label

    def metric(self, label: str, unit: str) -> MetricFigures | None:
        """A further metric; None where the seeds were not scored with it in that unit."""
        found = self.metrics.get(label)
        return found if found is not None and found.unit == unit else None

    @property
    def kind(self) -> tuple[str, int]:
        """Class and parameters, which networks of the same size have in common."""
        return self.network, self.parameters

    @property
    def megabytes(self) -> float:
        """Size of the parameters in float32, in 10⁶ bytes."""
        return 4 * self.parameters / 1e6


def _figure(values: Sequence[float | None]) -> Figure:
    return Figure(tuple(math.nan if value is None else value for value in values))


@dataclass(frozen=True)
class Comparison:
    """Networks that were scored on the same images."""

    entries: tuple[Entry, ...]  # teachers, baselines, others without a teacher, students
    classes: tuple[str, ...]
    images: int
    notes: tuple[Note, ...]
    gains: Mapping[str, Difference] = field(default_factory=dict)  # student minus baseline, by the student's key
    to_teachers: Mapping[str, Difference] = field(default_factory=dict)  # student minus teacher
    closed: Mapping[str, Interval] = field(default_factory=dict)  # shares of the teacher's lead
    trust: bool = False  # whether code that the runs' recipes name may be imported
    weak: Mapping[str, str] = field(default_factory=dict)  # a better baseline and its score, by the student's key
    other_data: tuple[str, ...] = ()  # a line for each network that was scored or trained on other files
    names: Mapping[str, str] = field(default_factory=dict)  # by key, of entries whose role has several
    latencies: Latencies = NO_LATENCIES

    def get(self, key: str | None) -> Entry | None:
        """The entry of that key."""
        return next((entry for entry in self.entries if entry.key == key), None)

    def of_role(self, role: Role) -> tuple[Entry, ...]:
        """The entries of one role, in order."""
        return tuple(entry for entry in self.entries if entry.role == role)

    @property
    def best_first(self) -> list[Entry]:
        """The students by their mIoU, the highest first."""
        return sorted(self.of_role("student"), key=lambda e: math.inf if math.isnan(e.miou) else -e.miou)

    def gain(self, entry: Entry) -> Difference | None:
        """The mIoU above the baseline's; None without a baseline that has a seed of the student's."""
        return self.gains.get(entry.key)

    def lead(self, entry: Entry) -> float | None:
        """The mIoU of a student's teacher above its baseline's, over the seeds of its gain; None without either."""
        gain = self.gain(entry)
        if gain is None or not entry.taught:
            return None
        scored = [split for seed, split in zip(entry.seeds, entry.taught, strict=True) if seed in gain.seeds]
        return statistics.fmean(scores(split.confusion).miou for split in scored) - gain.before

    def to_teacher(self, entry: Entry) -> Difference | None:
        """The mIoU above the teacher's, usually negative; None without a teacher."""
        return self.to_teachers.get(entry.key)

    @cached_property
    def adjusted(self) -> dict[str, float]:
        """The p-value of each student's gain, by its key, adjusted for the number of gains by Holm's method."""
        known = {key: gain.interval.p_value for key, gain in self.gains.items() if gain.interval is not None}
        return dict(zip(known, holm(list(known.values())), strict=True))

    def is_certain(self, entry: Entry) -> bool:
        """Whether a student's gain is not noise: its interval excludes 0, and of several gains the adjusted one too."""
        known = None if (gain := self.gain(entry)) is None else gain.interval
        return known is not None and known.distinguishable and self.adjusted[entry.key] < 1 - LEVEL

    def label(self, entry: Entry) -> str:
        """The shortest text that distinguishes an entry: its role, or its name among those of the role."""
        return entry.role if len(self.of_role(entry.role)) == 1 else self.name(entry)

    def name(self, entry: Entry) -> str:
        """An entry's recipe by its stem, or by the settings in which it differs from others of that stem."""
        return self.names.get(entry.key, entry.name)

    def latency(self, entry: Entry) -> float | None:
        """Milliseconds of one image; None if it is not known."""
        return self.latencies.milliseconds.get(entry.key)

    @property
    def all_timed(self) -> bool:
        """Whether the latency of every entry is known."""
        return all(self.latency(entry) is not None for entry in self.entries)

    @property
    def metrics(self) -> dict[tuple[str, str], MetricFigures]:
        """The further metrics of all entries by label and unit, each with the figures of one entry.

        A distance is in pixels for one dataset and in millimetres for another.
        """
        return {(label, metric.unit): metric for entry in self.entries for label, metric in entry.metrics.items()}

    @property
    def score(self) -> str:
        """What the tables call the mIoU, "agreement" where the teacher's classes take the place of labels."""
        return "mIoU" if self.entries[0].splits[0].against == "labels" else "agreement"

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that no scored pixel is labelled with."""
        counts = labelled(self.entries[0].splits[0])
        return tuple(name for name, pixels in zip(self.classes, counts, strict=True) if pixels == 0)


def mean_iou_by_class(splits: Sequence[SplitResult]) -> tuple[float | None, ...]:
    """Each class's IoU, the mean over the seeds that have one; None where none has."""
    columns = zip(*(scores(split.confusion).iou for split in splits), strict=True)
    known = ([value for value in column if value is not None] for column in columns)
    return tuple(statistics.fmean(values) if values else None for values in known)


def labelled(split: SplitResult) -> list[int]:
    """Labelled pixels of each class."""
    pixels: list[int] = split.confusion.sum(1).tolist()
    return pixels
