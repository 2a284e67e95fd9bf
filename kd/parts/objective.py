"""What a step minimises: the supervised loss, and one term for each way in which the student imitates its teacher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kd.components import defined_at
from kd.data.dataset import component_name
from kd.errors import RecipeError
from kd.types import IGNORE, Batch, DistillationLoss, SupervisedLoss, Tapped, as_tuple, resize, resize_labels, size_of

Triple = tuple[Float[Tensor, "N c h w"], Float[Tensor, "N d h w"], Int64[Tensor, "N h w"]]  # student, teacher, labels


@dataclass(frozen=True)
class Supervised:
    """The supervised loss at full size, plus each auxiliary head's, weighted.

    Attributes:
        loss: of logits (N, K, H, W) and labels (N, H, W).
        aux_weight: the weight of each auxiliary head, >= 0.
        labelled: the first images of a micro-batch, which alone are used; None: all have labels.
    """

    loss: SupervisedLoss
    aux_weight: float
    labelled: int | None = None

    def __call__(self, student: Tapped, labels: Int64[Tensor, "N H W"]) -> Float[Tensor, ""]:
        labels = _first(self.labelled, labels)
        total = self._of(student.logits, labels)
        for logits in student.aux.values():
            total = total + self.aux_weight * self._of(logits, labels)
        return total

    def _of(self, logits: Float[Tensor, "N K h w"], labels: Int64[Tensor, "n H W"]) -> Float[Tensor, ""]:
        return _scalar(self.loss, self.loss(resize(_first(self.labelled, logits), size_of(labels)), labels), logits)


@dataclass(frozen=True)
class Term:
    """One distillation term: it makes the sizes equal, selects the pixels, then calls its loss.

    Attributes:
        loss: of the student's map, the teacher's map and the labels. A term of several taps passes tuples.
        weight_at: step -> the factor in the total.
        resized: "student" brings the student's map to the teacher's size; "teacher" does the reverse.
        pixels: "valid" uses the labels as they are; "all" takes the teacher's argmax where there is an image but no
            label; "unlabelled" uses those pixels only.
        known: the classes that the teacher can predict; () for all. Only their channels are compared, renumbered from
            0, and the pixels of other classes are ignored.
        labelled: the first images of a micro-batch, the only ones that "valid" uses; None: all have labels.
    """

    loss: DistillationLoss
    weight_at: Callable[[int], float]
    resized: str = "student"
    pixels: str = "valid"
    known: tuple[int, ...] = ()
    labelled: int | None = None

    def __call__(self, name: str, student: Tapped, teacher: Tapped, batch: Batch) -> Float[Tensor, ""]:
        """The loss of term `name`, unweighted."""
        used = self.labelled if self.pixels == "valid" else None
        labels = _first(used, self._labels(teacher, batch))
        pairs = zip(as_tuple(student.at[name]), as_tuple(teacher.at[name]), strict=True)
        triples = [self._at_one_size(_first(used, ours), _first(used, theirs), labels) for ours, theirs in pairs]
        if isinstance(student.at[name], tuple):
            value: object = self.loss(*(tuple(parts) for parts in zip(*triples, strict=True)))
        else:
            value = self.loss(*triples[0])
        return _scalar(self.loss, value, triples[0][0])

    def _labels(self, teacher: Tapped, batch: Batch) -> Int64[Tensor, "N H W"]:
        if self.pixels == "valid":
            return batch.labels
        unlabelled = (batch.labels == IGNORE) & batch.inside
        predicted = resize(teacher.logits, size_of(batch.labels)).max(1).indices  # (N, H, W)
        return torch.where(unlabelled, predicted, batch.labels if self.pixels == "all" else IGNORE)

    def _at_one_size(
        self, student: Float[Tensor, "N C _ _"], teacher: Float[Tensor, "N D _ _"], labels: Int64[Tensor, "N H W"]
    ) -> Triple:
        size = size_of(teacher if self.resized == "student" else student)
        return self._of_known_classes(resize(student, size), resize(teacher, size), resize_labels(labels, size))

    def _of_known_classes(
        self, student: Float[Tensor, "N C h w"], teacher: Float[Tensor, "N D h w"], labels: Int64[Tensor, "N h w"]
    ) -> Triple:
        if not self.known:
            return student, teacher, labels
        renumbered = torch.full_like(labels, IGNORE)
        for number, label in enumerate(self.known):  # a lookup table would have to be copied to the device
            renumbered = torch.where(labels == label, number, renumbered)
        student, teacher = (torch.stack([maps[:, label] for label in self.known], 1) for maps in (student, teacher))
        return student, teacher, renumbered


def _scalar(loss: object, value: object, maps: Tensor) -> Float[Tensor, ""]:
    """The value of a loss of maps; one that finds nothing to compare in a batch may return a number.

    Raises:
        RecipeError: it is something else.
    """
    if isinstance(value, Tensor) and value.shape == ():
        return value if value.is_floating_point() else value.float()
    if isinstance(value, (int, float)):
        return torch.full((), float(value), device=maps.device)
    returned = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    raise RecipeError(
        f"{component_name(loss)}{defined_at(loss)}: a loss must return a scalar tensor, not {returned}; take its mean"
    )


def connected(loss: Float[Tensor, ""], maps: Sequence[Tensor]) -> Float[Tensor, ""]:
    """A loss as a step takes it: one without a gradient is a constant, whose gradient at its maps is 0, not missing."""
    return loss if loss.requires_grad else loss + sum(single[:0].sum() for single in maps)


def _first(count: int | None, maps: Tensor) -> Tensor:
    """The maps of the first images of a micro-batch; None: of all."""
    return maps if count is None else maps[:count]
