"""A run that is resumed from its directory alone, wherever that was copied to."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from kd.errors import RecipeError
from kd.files.manifest import unfinished
from kd.inputs import has_inputs, read_inputs
from kd.recipe import Recipe
from kd.recipe.identity import Scope, plain
from kd.recipe.sources import Code, Sources
from kd.runs.directory import id_of, in_its_folder, is_finished, read_run_recipe
from kd.runs.origin import beside_it


def resumable(run_dir: Path, overrides: Sequence[str] = (), *, trust: bool = False) -> Recipe:
    """The recipe of a run directory, with its seed alone and with its teacher's run beside it.

    Args:
        run_dir: `runs/<stem>-<id>/seed<k>`.
        overrides: `path=value` texts of machine settings, such as `data.args.root=/data`.
        trust: whether the recipe may name code outside kd.

    Raises:
        RecipeError: it is no run directory; an override changes the run; the teacher's run is missing.
        StorageError: a file of the run is damaged.
    """
    named, run_dir = run_dir, in_its_folder(run_dir)
    found = re.fullmatch(r"seed(\d+)", run_dir.name)
    stem, dash, _ = run_dir.parent.name.rpartition("-")
    if found is None or not dash:
        raise RecipeError(f"{named}: a folder, but no run directory; name a recipe, or a run such as x-0123abcd/seed0")
    recipe = read_run_recipe(run_dir, overrides, trust=trust)
    if overrides:
        before = read_run_recipe(run_dir, trust=trust)
        if recipe.resolved(Scope) != before.resolved(Scope):
            raise RecipeError(
                f"<{' '.join(overrides)}>: changes what {run_dir} trains; name its recipe, or give machine settings "
                "alone, such as data.args.root"
            )
    names = {beside_it(file) for file in recipe.sources.code}
    beside = beside_it if len(names) == len(recipe.sources.code) else str  # of two files of one name, the whole paths
    tree = plain(recipe, beside)
    tree["train"]["seeds"] = [int(found[1])]
    if (place := _teacher(recipe, run_dir)) is not None:
        tree["teacher"] |= {"recipe": None, "run": str(place)}
    folder = Path(os.path.abspath(run_dir.parent))
    code = {beside(file): Code(folder / beside(file), code.modules) for file, code in recipe.sources.code.items()}
    return Recipe.model_validate(tree).read_as(
        file=folder / f"{stem}.yaml",  # its name; the file itself may be on another machine
        trust=recipe.trust,
        overrides=recipe.overrides,
        id=id_of(run_dir),
        sources=Sources(code, recipe.sources.files, of_run=True),
    )


def place_of(recipe: Recipe, run_dir: Path, runs: Path) -> tuple[Path, str]:
    """Where a run that is resumed has its teacher and baseline, and the command that resumes it.

    Args:
        recipe: the run's, by `resumable`.
        run_dir: as the user names it.
        runs: the folder of run directories that the user gives.

    Raises:
        RecipeError: the run is in another folder.
    """
    own = Path(os.path.relpath(run_dir / ".." / ".."))
    if runs != Path("runs") and runs.resolve() != own.resolve():
        raise RecipeError(f"{run_dir}: a run of {own}, not of {runs}; leave --runs out")
    trust = ["--trust"] if recipe.trust else []
    return own, shlex.join(["kd", "run", os.fspath(run_dir), *recipe.overrides, *trust])


def _teacher(recipe: Recipe, run_dir: Path) -> Path | None:
    """The run of a teacher that has one of its own: it is beside this run, or where the recipe names it."""
    if recipe.teacher is None or (recipe.teacher.recipe is None and recipe.teacher.run is None):
        return None
    taught = read_inputs(run_dir).teacher if has_inputs(run_dir) else None
    if taught is None:
        raise RecipeError(f"{run_dir}: does not record its teacher's run; run its recipe")
    places = [run_dir.parents[1] / taught.run, *([Path(recipe.teacher.run)] if recipe.teacher.run else [])]
    place = next(filter(is_finished, places), None)
    if place is None:
        if begun := list(filter(None, (unfinished(place, trust=recipe.trust) for place in places))):
            raise RecipeError(f"{run_dir}: its teacher: {begun[0]}")
        raise RecipeError(f"{run_dir}: its teacher's run {places[0]} is missing; copy it there, or run its recipe")
    return place
