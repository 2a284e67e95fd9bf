"""Which parts of a step depend on all images of a micro-batch: BatchNorm, and losses that compare images."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from kd.parts.assemble import Parts, example_batch
from kd.parts.checks.dry_run import untouched
from kd.parts.objective import Term
from kd.types import IGNORE, Batch, Tapped

HALVES = (slice(0, 2), slice(2, 4))  # of four images

Outputs = tuple[Batch, Tapped, Tapped | None]  # the batch, and what student and teacher return for it


def across_images(parts: Parts) -> list[str]:
    """The keys of the recipe whose network or loss gives something else for a batch than for its two halves.

    Every pixel of the made-up batch has a label, since a loss is a mean over those that do, and its halves are unlike,
    in brightness and in classes. A term of other pixels takes these ones. Dropout is off. CutMix, which exchanges parts
    of images within a micro-batch, is no part of a loss.
    """
    batch = example_batch(parts, parts.recipe.data.crop or parts.recipe.data.size, HALVES[-1].stop)
    batch = batch._replace(labels=batch.labels.where(batch.labels != IGNORE, 0))
    batch.images[HALVES[1]] *= 0.2
    batch.labels[HALVES[1]] //= 2
    with untouched(parts):
        parts.student.train()
        for module in parts.student.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        with torch.no_grad():
            student = parts.student(batch.images)
            of_halves = [parts.student(batch.images[half]) for half in HALVES]
            teacher = None if parts.teaching is None else parts.teaching(batch)
        found = [] if _equal(student, _joined(of_halves)) else ["student"]
        whole = (batch, tree_map_only(Tensor, lambda maps: maps.requires_grad_(), student), teacher)
        for key, loss in _losses(parts).items():
            values = [loss(_half(whole, half)) for half in HALVES]
            if not _equal(loss(whole), torch.stack(values).mean()):
                found.append(key)
    unlabelled = parts.recipe.data.unlabelled
    return found + (["data.unlabelled.cutmix"] if unlabelled is not None and unlabelled.cutmix else [])


def _losses(parts: Parts) -> dict[str, Callable[[Outputs], Tensor]]:
    """Every loss as a function of a batch; each call takes a copy, since a loss may have a memory."""

    def supervised(outputs: Outputs) -> Tensor:
        batch, student, _ = outputs
        return replace(parts.supervised, loss=copy.deepcopy(parts.supervised.loss), labelled=None)(
            student, batch.labels
        ).detach()

    def distilled(name: str, term: Term, outputs: Outputs) -> Tensor:
        batch, student, teacher = outputs
        assert teacher is not None
        alone = replace(term, loss=copy.deepcopy(term.loss), labelled=None, pixels="valid")
        return alone(name, student, teacher, batch).detach()

    terms = {f"distill.{name}": partial(distilled, name, term) for name, term in parts.terms.items()}
    return {"supervised": supervised, **terms}


def _half(outputs: Outputs, half: slice) -> Outputs:
    halved: Outputs = tree_map_only(Tensor, lambda tensor: tensor[half], outputs)
    return halved


def _joined(halves: list[Tapped]) -> list[Tensor]:
    return [torch.cat(pair) for pair in zip(*map(tree_leaves, halves), strict=True)]


def _equal(outputs: Tapped | Tensor, others: list[Tensor] | Tensor) -> bool:
    """Whether maps or losses are equal but for rounding."""
    pairs = zip(tree_leaves(outputs), tree_leaves(others), strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max())) for a, b in pairs)
