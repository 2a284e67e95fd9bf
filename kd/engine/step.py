"""One step of distillation: both networks on one batch, every loss by name; and the run that takes it."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kd.precision import Precision
from kd.types import IGNORE, Batch, DistillationLoss, SupervisedLoss, Taken, Tapped, resize, resize_labels


def distill_step(run: "Run", batch: Batch) -> dict[str, Tensor]:
    """Run both networks on one micro-batch.

    Args:
        run: the run.
        batch: float images on the run's device.

    Returns:
        Every loss by name, unweighted, and "total", their weighted sum: scalars, float32 at least.
    """
    with run.precision.autocast():
        teacher = run.teacher(batch)  # None without distillation
        student = run.student(batch.images)
    losses = {"supervised": run.supervised(student, batch.labels)}
    total = losses["supervised"]
    for name, term in run.terms.items():
        losses[name] = term(name, student, teacher, batch)
        total = total + term.weight_at(run.step) * losses[name]
    return losses | {"total": total}


@dataclass(frozen=True)
class Supervised:
    """The supervised loss at full size, plus each auxiliary head's with one weight.

    Attributes:
        loss: how far logits (N, K, H, W) are from labels (N, H, W).
        aux_weight: the weight of each auxiliary head, >= 0.
    """

    loss: SupervisedLoss
    aux_weight: float

    def __call__(self, student: Tapped, labels: Tensor) -> Tensor:
        size = (labels.shape[-2], labels.shape[-1])
        total = self.loss(resize(student.logits, size), labels)
        for logits in student.aux.values():
            total = total + self.aux_weight * self.loss(resize(logits, size), labels)
        return total


@dataclass(frozen=True)
class Term:
    """One distillation term: makes sizes equal, chooses the pixels, then calls its loss.

    Attributes:
        loss: compares the student's map with the teacher's. A term of several taps gives it tuples (labels too).
        weight: the factor in the total at a step.
        resized: "student" brings the student's map to the teacher's size; "teacher" the other way round.
        pixels: "valid" uses the labels as they are; "all" takes the teacher's argmax where there is an image but no
            label; "unlabelled" uses those pixels alone.
        known: the only classes that the teacher can speak of; () for all. Their channels alone are compared, numbered
            anew from 0, and pixels of other classes are ignored.
    """

    loss: DistillationLoss
    weight: Callable[[int], float]
    resized: str = "student"
    pixels: str = "valid"
    known: tuple[int, ...] = ()

    def weight_at(self, step: int) -> float:
        return self.weight(step)

    def __call__(self, name: str, student: Tapped, teacher: Tapped, batch: Batch) -> Tensor:
        """The loss of term `name`, unweighted."""
        labels = self._labels(teacher, batch)
        theirs, ours = teacher.at[name], student.at[name]
        if isinstance(ours, tuple):
            triples = [self._equal(s, t, labels) for s, t in zip(ours, theirs, strict=True)]
            return self.loss(*(tuple(parts) for parts in zip(*triples, strict=True)))
        return self.loss(*self._equal(ours, _one(theirs), labels))

    def _labels(self, teacher: Tapped, batch: Batch) -> Tensor:
        if self.pixels == "valid":
            return batch.labels
        size = (batch.labels.shape[-2], batch.labels.shape[-1])
        free = (batch.labels == IGNORE) & batch.inside  # an image, but no label
        filled = torch.where(free, resize(teacher.logits, size).argmax(1), batch.labels)
        return filled if self.pixels == "all" else torch.where(free, filled, IGNORE)

    def _equal(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both maps and the labels (N, h, w) at one size."""
        target = teacher if self.resized == "student" else student
        size = (target.shape[-2], target.shape[-1])
        return self._spoken(resize(student, size), resize(teacher, size), resize_labels(labels, size))

    def _spoken(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both maps with the known classes alone, and the labels in their numbers."""
        if not self.known:
            return student, teacher, labels
        numbers = torch.full_like(labels, IGNORE)
        for number, label in enumerate(self.known):  # one by one: a table would have to go to the device
            numbers = torch.where(labels == label, number, numbers)
        ours, theirs = (torch.stack([maps[:, label] for label in self.known], 1) for maps in (student, teacher))
        return ours, theirs, numbers


def _one(maps: Taken) -> Tensor:
    assert isinstance(maps, Tensor)
    return maps


class NotFinite(NamedTuple):
    """A step whose loss or gradient is no finite number, before the update: the parameters are still good."""

    batches: list[Batch]  # the step's micro-batches, as the loader made them
    losses: list[dict[str, Tensor]]  # of each
    norm: Tensor  # of the gradient

    def __str__(self) -> str:
        """Which term it is, and all values; the first micro-batch that shows it."""
        values = {name: value.item() for name, value in self.losses[self.culprits()[0]].items()}
        bad = [name for name, value in values.items() if not math.isfinite(value) and name != "total"]
        listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        what = f"term '{bad[0]}' is {values[bad[0]]}" if bad else f"the gradient's norm is {self.norm.item()}"
        return f"{what} ({listed})"

    def culprits(self) -> list[int]:
        """The micro-batches with a loss that is not finite; all, if it is the gradient alone."""
        bad = [i for i, one in enumerate(self.losses) if not all(math.isfinite(v.item()) for v in one.values())]
        return bad or list(range(len(self.losses)))


@dataclass
class Run:
    """One training run: its parts, where it is, where it ends."""

    student: nn.Module  # what trains, DDP-wrapped under torchrun
    teacher: Callable[[Batch], Any]  # -> Tapped; without terms, None
    supervised: Supervised
    terms: Mapping[str, Term]
    optimizer: Optimizer
    factor: Callable[[int], float]  # step -> factor of each group's initial learning rate
    batches: Iterator[Batch]  # micro-batches, as the loader makes them
    precision: Precision
    steps: int
    accumulate: int  # micro-batches a step
    clip_norm: float  # inf: measure only
    due: Callable[["Run", Mapping[str, Tensor]], None]  # after each step: report, evaluate, save, stop
    not_finite: Callable[["Run", NotFinite], None]  # in place of an update; returns to leave the update out
    step: int = 0  # optimizer updates made so far
    enter: Callable[["Run"], None] = lambda run: None  # before each step: what rests, and at which rate the others go
    average: Callable[[], None] = lambda: None  # after each update: the moving average follows
