"""Gradients of the losses: which parameters they reach, and the strength and direction of each term's gradient."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kd.parts.assemble import Parts
from kd.parts.compiling import uncompiled
from kd.parts.roles import restored, to_device
from kd.types import Batch


def gradients(loss: Tensor, module: nn.Module) -> dict[str, Tensor | None]:
    """The loss's gradient at every trainable parameter of a module, by name; None where the loss does not reach."""
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not trained or not loss.requires_grad:
        return dict.fromkeys(trained)
    values = torch.autograd.grad(loss, list(trained.values()), retain_graph=True, allow_unused=True)
    return dict(zip(trained, values, strict=True))


def reached(loss: Tensor, maps: Sequence[Tensor], module: nn.Module) -> list[str]:
    """The names of the trainable parameters that a loss of a module's maps teaches.

    The graph shows which parameters a map is computed from, so that a hundred losses do not cost a hundred passes
    through the network; only where it shows none (a network may hide a part of it) are their gradients computed.

    Args:
        loss: computed from `maps`.
        maps: at the taps of the loss.
        module: computed the maps.
    """
    mapped = [single for single in maps if single.requires_grad]
    values = torch.autograd.grad(loss, mapped, retain_graph=True, allow_unused=True) if mapped else ()
    teaching = [single for single, value in zip(mapped, values, strict=True) if value is not None and bool(value.any())]
    leaves = _leaves(teaching)
    if names := [name for name, parameter in module.named_parameters() if id(parameter) in leaves]:
        return names
    return [name for name, gradient in gradients(loss, module).items() if gradient is not None and bool(gradient.any())]


def _leaves(maps: Sequence[Tensor]) -> set[int]:
    """The ids of the parameters that maps are computed from."""
    waiting = [single.grad_fn for single in maps]
    seen, leaves = set(waiting), set[int]()
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        waiting += new
    return leaves


def gradient_norm(loss: Tensor, module: nn.Module) -> float:
    """The L2 norm of the loss's gradient at the trainable parameters of a module."""
    squares = (
        gradient.float().square().sum().item() for gradient in gradients(loss, module).values() if gradient is not None
    )
    return float(sum(squares) ** 0.5)


class Pull(NamedTuple):
    """A term's gradient at the parameters that the supervised loss reaches too; unweighted."""

    norm: float  # of the term's gradient
    supervised: float  # the norm of the supervised gradient, at the same parameters
    cosine: float  # between the two, -1 … 1; 0 where one of them is 0

    @property
    def ratio(self) -> float:
        """The norm divided by that of the supervised gradient."""
        return self.norm / self.supervised if self.supervised else math.inf


def pulls(parts: Parts, batch: Batch) -> dict[str, Pull]:
    """Each term's pull on one micro-batch, as the loader makes it.

    The student's weights, BatchNorm's statistics, the losses' memories and the random state are restored.
    """
    student = parts.student
    training = student.training
    batch = to_device(batch, parts.precision)
    with restored(parts.precision, student), uncompiled(student):  # compiled code allows one backward pass, not several
        student.train()
        with parts.precision.autocast():
            teacher = parts.teacher(batch) if parts.teacher else None
            output = student(batch.images)
        supervised = gradients(parts.supervised(output, batch.labels), student.network)
        pull_by_term = {}
        for name, term in parts.terms.items():
            assert teacher is not None
            pull_by_term[name] = _pull(gradients(term(name, output, teacher, batch), student.network), supervised)
    student.train(training)
    return pull_by_term


def figures(pulls: Mapping[str, Pull]) -> dict[str, float]:
    """`gradient/<term>`, the unweighted norm; `gradient_ratio/<term>`, to the supervised norm; `cosine/<term>`."""
    values: dict[str, float] = {}
    for name, pull in pulls.items():
        values |= {f"gradient/{name}": pull.norm, f"gradient_ratio/{name}": pull.ratio, f"cosine/{name}": pull.cosine}
    return values


def _pull(term: Mapping[str, Tensor | None], supervised: Mapping[str, Tensor | None]) -> Pull:
    products = torch.zeros(3, dtype=torch.float64)  # term · term, supervised · supervised, term · supervised
    for of_term, of_supervised in zip(term.values(), supervised.values(), strict=True):
        if of_term is not None and of_supervised is not None:
            a, b = of_term.flatten().float(), of_supervised.flatten().float()
            products += torch.stack((a @ a, b @ b, a @ b)).cpu()
    norm, reference = products[0].sqrt().item(), products[1].sqrt().item()
    return Pull(norm, reference, products[2].item() / (norm * reference) if norm * reference else 0.0)
