"""How hard and which way each term pulls at the student's parameters."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kd.parts.assemble import Parts
from kd.parts.roles import to_device
from kd.types import Batch


class Pull(NamedTuple):
    """A term's gradient at the parameters it shares with the supervised loss; unweighted."""

    norm: float  # of the term's gradient
    supervised: float  # of the supervised gradient, at the same parameters
    cosine: float  # between the two, -1 … 1; 0 where one of them is 0

    @property
    def ratio(self) -> float:
        """The norm by the supervised one's."""
        return self.norm / self.supervised if self.supervised else math.inf


def pulls(parts: Parts, batch: Batch) -> dict[str, Pull]:
    """Each term's pull on one micro-batch, as the loader made it.

    Nothing of the run changes: BatchNorm's statistics, the losses' memories and the generators are put back.
    """
    student, device = parts.student, parts.precision.device
    before = [buffer.clone() for buffer in student.buffers()]
    training = student.training
    batch = to_device(batch, parts.precision)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        student.train()
        with parts.precision.autocast():
            teacher = parts.teacher(batch) if parts.teacher else None
            output = student(batch.images)
        supervised = _gradient(parts, parts.supervised(output, batch.labels))
        found = {}
        for name, term in parts.terms.items():
            assert teacher is not None
            found[name] = _pull(_gradient(parts, term(name, output, teacher, batch)), supervised)
    student.train(training)
    with torch.no_grad():
        for buffer, value in zip(student.buffers(), before, strict=True):
            buffer.copy_(value)
    return found


class Watched:
    """The pulls on the last of the batches that passed by: what `log.gradients` writes.

    Args:
        parts: of the run.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._last: Batch | None = None

    def passing(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; they are not held, so that their workers stop with the run that reads them."""
        for batch in batches:
            self._last = batch
            yield batch

    def figures(self) -> dict[str, float]:
        """`gradient/<term>`, the norm unweighted; `gradient_ratio/<term>` to the supervised one's; `cosine/<term>`."""
        assert self._last is not None, "figures are of a step that has been taken"
        values: dict[str, float] = {}
        for name, pull in pulls(self._parts, self._last).items():
            values[f"gradient/{name}"] = pull.norm
            values[f"gradient_ratio/{name}"] = pull.ratio
            values[f"cosine/{name}"] = pull.cosine
        return values


def _gradient(parts: Parts, loss: Tensor) -> list[Tensor | None]:
    """At each trainable parameter of the student's network; None where the loss does not reach."""
    trained = [parameter for parameter in parts.student.network.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True))


def _pull(term: Sequence[Tensor | None], supervised: Sequence[Tensor | None]) -> Pull:
    squared = torch.zeros(3, dtype=torch.float64)  # term · term, supervised · supervised, term · supervised
    for mine, its in zip(term, supervised, strict=True):
        if mine is not None and its is not None:
            a, b = mine.flatten().float(), its.flatten().float()
            squared += torch.stack((a @ a, b @ b, a @ b)).cpu()
    norm, reference = squared[0].sqrt().item(), squared[1].sqrt().item()
    return Pull(norm, reference, squared[2].item() / (norm * reference) if norm * reference else 0.0)
