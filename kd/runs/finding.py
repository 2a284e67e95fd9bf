"""The finished runs that a recipe or a directory names."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from kd.errors import RecipeError
from kd.files.manifest import unfinished
from kd.recipe import Recipe
from kd.recipe.shipped.recipes import name_of
from kd.runs.directory import in_its_folder, may_be_finished, run_command, run_directory


def by_seed(paths: Iterable[Path]) -> list[Path]:
    """The run directories `seed<k>` among `paths`, by k; not those that `--fresh` moved aside."""
    run_dirs = (path for path in paths if re.fullmatch(r"seed\d+", path.name))
    return sorted(run_dirs, key=lambda path: int(path.name.removeprefix("seed")))


def finished_below(folder: Path) -> list[Path]:
    """The finished runs of a recipe's folder, by seed; none of a folder that there cannot be."""
    if not os.path.isdir(folder):
        return []
    return [run_dir for run_dir in by_seed(folder.glob("seed*")) if may_be_finished(run_dir)]


def finished_at(path: Path, *, trust: bool = False) -> list[Path]:
    """A finished run by its directory, or those in the folder of a recipe's runs, by seed.

    Args:
        path: the directory.
        trust: whether the command that an error prints has `--trust`.

    Raises:
        RecipeError: there is none.
    """
    run_dirs = [path] if may_be_finished(path) else finished_below(path)
    if not run_dirs:
        raise RecipeError(unfinished(path, trust=trust) or f"{path}: holds no finished run; kd list shows all runs")
    return list(map(in_its_folder, run_dirs))


def finished_of(recipe: Recipe, runs: Path) -> list[Path]:
    """The finished runs of a recipe, in the order of its seeds.

    Raises:
        RecipeError: there is none; the message has the command that trains it.
    """
    run_dirs = [run_directory(recipe, runs, seed) for seed in recipe.train.seeds]
    finished = [run_dir for run_dir in run_dirs if may_be_finished(run_dir)]
    if not finished:
        name, command = name_of(recipe.file), run_command(recipe, runs)
        raise RecipeError(f"{name}: no finished run in {run_dirs[0].parent}; {command} trains it")
    return finished
