"""`kd calibrate`: size and direction of each term's gradient, and weights that balance the terms."""

import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from kd.console import make_table, print_line, print_text, stdout
from kd.errors import RecipeError
from kd.parts.assemble import Parts
from kd.parts.checks.dry_run import open_parts
from kd.parts.checks.gradients import Pull, pulls
from kd.parts.stream import in_this_process, stream
from kd.recipe import Recipe, yaml12
from kd.train.auto.settling import settled_outside_run
from kd.units import counted


def calibrate_command(
    recipe: Recipe, *, runs: Path, batches: int = 4, ratio: float = 1.0, console: Console | None = None
) -> None:
    """Print each term's pull on some batches, and the terms with weights at which it is `ratio`.

    Raises:
        RecipeError: the recipe has no terms, or its teacher is not trained; `batches` is below 1, or `ratio` is not
            above 0.
    """
    if batches < 1:
        raise RecipeError(f"kd calibrate: --batches is {batches}; it must be 1 or more")
    if not 0 < ratio < math.inf:
        raise RecipeError(f"kd calibrate: --ratio is {ratio:g}; it must be above 0")
    if not recipe.distill:
        raise RecipeError(f"{recipe.file}: has no term to calibrate; add `teacher` and `distill`")
    opened = open_parts(in_this_process(recipe), runs=runs)
    parts = settled_outside_run(opened, runs, ["accumulate"])  # compiled networks have the same gradients
    measured = [pulls(parts, b) for b in islice(stream(parts, seed=recipe.train.seeds[0], steps=batches), batches)]
    means = {name: Pull(*map(fmean, zip(*(terms[name] for terms in measured), strict=True))) for name in parts.terms}
    console = console or stdout()
    for line in parts.notes:
        print_line(line, console=console)
    measured_on = f"{batches} × {counted(parts.recipe.images_per_step // parts.recipe.accumulate, 'image')}"
    title = f"Gradients at the parameters that a term and the supervised loss share; batches: {measured_on}"
    print_line(title, style="bold", console=console)
    console.print(_table(parts, means))
    weights = {name: proposed(pull, ratio) for name, pull in means.items()}
    print_text(fragment(recipe, weights), console=console)


def proposed(pull: Pull, ratio: float) -> float:
    """The weight, to three digits, at which a term pulls `ratio` times as hard as the supervised loss.

    Raises:
        RecipeError: the term or the supervised loss has no gradient on these batches.
    """
    if not pull.norm or not pull.supervised:
        loss = "the term" if not pull.norm else "the supervised loss"
        raise RecipeError(f"kd calibrate: {loss} has no gradient on these batches; take more with --batches")
    return float(f"{ratio * pull.supervised / pull.norm:.3g}")


def fragment(recipe: Recipe, weights: Mapping[str, float]) -> str:
    """The recipe's terms with other weights, as YAML."""
    terms = {
        name: term.model_dump(exclude_defaults=True) | {"weight": weights[name]}
        for name, term in recipe.distill.items()
    }
    return yaml12.dump({"distill": terms})


def _table(parts: Parts, means: Mapping[str, Pull]) -> Table:
    rows = []
    for name, pull in means.items():
        weight = parts.terms[name].weight_at(parts.steps - 1)  # a schedule's last: it may start at 0
        values = f"{pull.norm:.3g}", f"{pull.supervised:.3g}", f"{pull.cosine:+.2f}", f"{weight:g}"
        rows.append((name, *values, f"{weight * pull.ratio:.3g}"))
    header = ("term", "norm", "supervised", "cosine", "weight now", "weighted norm / supervised")
    return make_table(header, rows)
