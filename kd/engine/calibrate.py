"""`kd calibrate`, and its figures in training: how hard and which way each term pulls, and the weights to match."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kd import nodes
from kd.build import check_calls
from kd.console import stdout
from kd.engine.assemble import Parts, assemble
from kd.engine.check import meet
from kd.engine.start import stream
from kd.engine.train import to_device
from kd.recipe import Recipe, RecipeError, read_recipe
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


def calibrate_command(
    file: str | Path,
    overrides: Sequence[str] = (),
    *,
    trust: bool,
    runs: Path,
    batches: int = 4,
    ratio: float = 1.0,
    console: Console | None = None,
) -> None:
    """Print each term's pull on some batches, and the terms with the weights that bring it to `ratio`.

    Raises:
        RecipeError: the recipe is wrong, has no terms, or its teacher is not trained; `batches` is below 1, or `ratio`
            not above 0.
    """
    if batches < 1:
        raise RecipeError(f"kd calibrate: --batches is {batches}; it must be 1 or more")
    if not 0 < ratio < math.inf:
        raise RecipeError(f"kd calibrate: --ratio is {ratio:g}; it must be above 0")
    recipe = read_recipe(file, [*overrides, "data.workers=0"], trust=trust)
    check_calls(recipe)
    if not recipe.distill:
        raise RecipeError(f"{recipe.file}: there is no term to calibrate; add `teacher` and `distill`")
    seed = recipe.train.seeds[0]
    parts = assemble(recipe, runs=runs, seed=seed)
    meet(parts)
    found = [pulls(parts, batch) for batch in islice(stream(parts, seed=seed, steps=batches), batches)]
    means = {name: Pull(*map(fmean, zip(*(one[name] for one in found), strict=True))) for name in parts.terms}
    console = console or stdout()
    console.print(_table(parts, means, batches))
    weights = {name: proposed(pull, ratio) for name, pull in means.items()}
    console.print(fragment(recipe, weights), markup=False, soft_wrap=True)


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


def proposed(pull: Pull, ratio: float) -> float:
    """The weight, to three digits, at which a term pulls `ratio` times as hard as the supervised loss.

    Raises:
        RecipeError: the term or the supervised loss has no gradient on these batches.
    """
    if not pull.norm or not pull.supervised:
        who = "the term" if not pull.norm else "the supervised loss"
        raise RecipeError(f"kd calibrate: {who} has no gradient on these batches; take more with --batches")
    return float(f"{ratio * pull.supervised / pull.norm:.3g}")


def fragment(recipe: Recipe, weights: Mapping[str, float]) -> str:
    """The recipe's terms with other weights, as YAML."""
    terms = {
        name: term.model_dump(exclude_defaults=True) | {"weight": weights[name]}
        for name, term in recipe.distill.items()
    }
    return nodes.dump({"distill": terms})


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


def _table(parts: Parts, means: Mapping[str, Pull], batches: int) -> Table:
    table = Table(title=f"Gradients at the parameters that a term and the supervised loss share; batches: {batches}")
    for name in ("term", "norm", "supervised", "cosine", "weight now", "weighted norm / supervised"):
        table.add_column(name, justify="left" if name == "term" else "right")
    for name, pull in means.items():
        weight = parts.terms[name].weight_at(parts.steps - 1)  # a schedule's last: it may start at 0
        values = f"{pull.norm:.3g}", f"{pull.supervised:.3g}", f"{pull.cosine:+.2f}", f"{weight:g}"
        table.add_row(name, *values, f"{weight * pull.ratio:.3g}")
    return table
