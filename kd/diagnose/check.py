"""`kd check`: whether a recipe trains, and what it would train."""

from pathlib import Path

from kd.parts.assemble import Parts
from kd.parts.checks.dry_run import open_parts
from kd.parts.data import Data
from kd.parts.teacher.leakage import refuse_leak
from kd.recipe import Recipe
from kd.train.auto.fit import foreseen, found_accumulate
from kd.types import parameter_count


def check_recipe(recipe: Recipe, *, runs: Path) -> list[str]:
    """Check everything about a recipe but its shape, which reading it has checked.

    Returns:
        Lines for the user: what would be trained, which weights were loaded, the size of the losses' memories, the
        memory that a step takes, and what the labels hold.

    Raises:
        RecipeError: with all mistakes of the first stage that finds any.
        DataError: the data cannot be read.
    """
    parts = open_parts(recipe, runs=runs, trained=False, surveyed=True)
    with parts.data.leaving_cores():
        step = _step(parts)
    parts.data.check(recipe)
    parts.notes.extend(refuse_leak(recipe, parts.data, runs=runs, data_of=Data))
    student = f"{recipe.student.use} ({parameter_count(parts.student.network):,} parameters)"
    teacher = f", teacher with {parameter_count(parts.teacher.network):,} parameters" if parts.teacher else ""
    seeds = f" × {len(recipe.train.seeds)} seeds" if len(recipe.train.seeds) > 1 else ""
    ok = f"{recipe.file}: ok: {student}{teacher}, {parts.steps} steps{seeds} on {parts.precision}"
    return [ok, *parts.notes, *_memories(parts), *step, *parts.data.lines(recipe)]


def _memories(parts: Parts) -> list[str]:
    """A line for every loss whose buffers hold more than a few numbers."""
    sizes = {
        name: sum(buffer.numel() * buffer.element_size() for buffer in loss.buffers())
        for name, loss in parts.student.losses.items()
    }
    places = {name: name if name == "supervised" else f"distill.{name}" for name in sizes}
    return [f"{places[name]}: its memory takes {size / 1e6:.1f} MB" for name, size in sizes.items() if size > 1000]


def _step(parts: Parts) -> list[str]:
    """A line on the memory that a step takes, where the system measures it."""
    if parts.recipe.train.accumulate == "auto":
        return [found_accumulate(parts)[1]]
    fits = {fit.micro_batches: fit for fit in foreseen(parts)}
    fit = fits.get(parts.recipe.accumulate)
    if fit is None:
        return []
    larger = next((number for number, other in fits.items() if other.fits), None)
    fix = f"; set train.accumulate={larger}, or auto" if larger and not fit.fits else ""
    return [f"{'' if fit.fits else 'warning: '}memory: a step takes about {fit}{fix}"]
