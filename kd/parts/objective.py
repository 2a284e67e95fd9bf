"""What a step minimises: the supervised loss, and one term for each way in which the student follows its teacher."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kd.types import IGNORE, Batch, DistillationLoss, Maps, SupervisedLoss, Tapped, resize, resize_labels


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


def _one(maps: Maps) -> Tensor:
    assert isinstance(maps, Tensor)
    return maps
