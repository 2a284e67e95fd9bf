"""The network of a finished run, with what is needed to use it without the run's data."""

import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from kd.data.class_files import Color
from kd.data.classes import distinct_colors
from kd.errors import RecipeError
from kd.parts.trained import load_network
from kd.recipe import Recipe, read_recipe
from kd.runs import Result, finished_at, finished_of, read_environment, read_result, read_run_recipe


@dataclass(frozen=True)
class Trained:
    """The network of a finished run."""

    run_dir: Path
    recipe: Recipe  # as it is in the run directory
    network: nn.Module  # in evaluation mode, on the CPU
    result: Result
    classes: tuple[str, ...]
    colors: tuple[Color, ...]  # of the classes; made up for a run of kd 0.2 or older, which recorded none
    in_channels: int

    def __str__(self) -> str:
        """One line for the user."""
        height, width = self.recipe.scored_size
        network = self.recipe.student.use
        return f"{self.run_dir}: {network}, {len(self.classes)} classes, images scored at {width}×{height}"


def open_trained(
    target: str | os.PathLike[str], *, runs: str | os.PathLike[str] = "runs", trust: bool = False
) -> Trained:
    """Load the network of a finished run; of several seeds, that of the first.

    Args:
        target: a run directory, the folder of a recipe's runs, or a recipe.
        runs: where the runs of a recipe are.
        trust: whether the recipe may name code outside kd.

    Raises:
        RecipeError: there is no finished run; the recipe is wrong, or names code that is not trusted.
        WeightsError: the weights are missing, damaged, or of another run.
        StorageError: another file of the run is missing or damaged.
    """
    path = Path(target)
    run_dir = finished_at(path)[0] if path.is_dir() else finished_of(read_recipe(path, trust=trust), Path(runs))[0]
    recipe = read_run_recipe(run_dir, trust=trust)
    network = load_network(run_dir, recipe=recipe)
    result = read_result(run_dir)
    classes = tuple(next(iter(result.splits.values())).classes)
    environment = read_environment(run_dir)
    colors = environment.colors or distinct_colors(len(classes))
    if len(colors) != len(classes):
        raise RecipeError(f"{run_dir}: {len(colors)} colours for {len(classes)} classes; list a colour for each class")
    return Trained(run_dir, recipe, network, result, classes, tuple(colors), environment.in_channels)
