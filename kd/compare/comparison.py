"""What a comparison is: networks that were scored on the same images, and what follows from their scores."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from kd.errors import RecipeError
from kd.metrics import Scores, scores
from kd.runs import Result, SplitResult, TeacherResult

# "alone": trained from labels alone, and not the twin of a distilled network in the same comparison.
Role = Literal["teacher", "baseline", "alone", "student"]
ORDER: tuple[Role, ...] = ("teacher", "baseline", "alone", "student")
SPLIT = "val"


class Figure(NamedTuple):
    """A score over seeds, a share from 0 to 1."""

    mean: float
    sd: float | None  # sample standard deviation; None for one seed


@dataclass(frozen=True)
class Entry:
    """One network of a comparison: one row, all its seeds together."""

    key: str  # `<stem>-<id>`, or the network's name where there is no run: unique in a comparison
    role: Role
    name: str  # the recipe's stem
    network: str
    splits: tuple[SplitResult, ...]  # one a seed
    parameters: int
    runs: tuple[Path, ...] = ()  # finished run directories, one a seed; none for a teacher without a run
    seeds: tuple[int, ...] = ()
    seconds: float | None = None  # of training, the mean over seeds
    images_per_second: float | None = None  # in training, the mean over seeds
    peak_memory: int | None = None  # bytes, the highest of all seeds
    select: str = "last"  # which weights were scored: "last" or "best"
    teacher: str | None = None  # key of the entry that taught it
    baseline: str | None = None  # key of its twin's entry; None where no twin has finished

    @cached_property
    def scores(self) -> tuple[Scores, ...]:
        """The scores of each seed."""
        return tuple(scores(split.confusion) for split in self.splits)

    def figure(self, score: Callable[[Scores], float]) -> Figure:
        """Mean and standard deviation of one score over the seeds."""
        values = [score(each) for each in self.scores]
        return Figure(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    @property
    def miou(self) -> float:
        """Mean over the seeds, a share."""
        return self.figure(lambda each: each.miou).mean

    @cached_property
    def iou(self) -> tuple[float | None, ...]:
        """Each class's IoU, the mean over the seeds that have one; None where none has."""
        columns = zip(*(each.iou for each in self.scores), strict=True)
        known = ([value for value in column if value is not None] for column in columns)
        return tuple(statistics.fmean(values) if values else None for values in known)

    @property
    def megabytes(self) -> float:
        """Size of the parameters in float32, in 10⁶ bytes."""
        return 4 * self.parameters / 1e6


@dataclass(frozen=True)
class Comparison:
    """Networks that were scored on the same images."""

    entries: tuple[Entry, ...]  # teachers, baselines, others without a teacher, students
    classes: tuple[str, ...]
    images: int
    notes: tuple[str, ...]  # lines for the user, below the tables
    trust: bool = False  # whether code that the runs' recipes name may be imported

    def get(self, key: str | None) -> Entry | None:
        """The entry of that key."""
        return next((entry for entry in self.entries if entry.key == key), None)

    def of_role(self, role: Role) -> tuple[Entry, ...]:
        """The entries of one role, in order."""
        return tuple(entry for entry in self.entries if entry.role == role)

    def gain(self, entry: Entry) -> float | None:
        """Points of mIoU above the baseline's, a share; None without a baseline."""
        baseline = self.get(entry.baseline)
        return None if baseline is None else entry.miou - baseline.miou

    def to_teacher(self, entry: Entry) -> float | None:
        """Points of mIoU above the teacher's, a share, usually negative; None without a teacher."""
        teacher = self.get(entry.teacher)
        return None if teacher is None else entry.miou - teacher.miou

    def label(self, entry: Entry) -> str:
        """The shortest text that tells this entry from the others: its role, or its recipe's stem."""
        return entry.role if len(self.of_role(entry.role)) == 1 else entry.name

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that no scored pixel is labelled with."""
        counts = labelled(self.entries[0].splits[0])
        return tuple(name for name, pixels in zip(self.classes, counts, strict=True) if pixels == 0)


def val(result: Result | TeacherResult, run: Path) -> SplitResult:
    """The score of a run, or of its teacher, on the split that is compared.

    Raises:
        RecipeError: there is none.
    """
    if SPLIT not in result.splits:
        raise RecipeError(f"{run}: has scores on {', '.join(result.splits) or 'nothing'}, not on {SPLIT}; run it again")
    return result.splits[SPLIT]


def labelled(split: SplitResult) -> list[int]:
    """Labelled pixels of each class."""
    pixels: list[int] = split.confusion.sum(1).tolist()
    return pixels
