"""The network of a finished run, with what is needed to use it without the run's data."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from kd.data.class_files import Color
from kd.data.classes import distinct_colors
from kd.errors import RecipeError
from kd.evaluation.targets import find
from kd.parts.trained import load_network
from kd.recipe import Recipe
from kd.runs import Result, read_environment, read_result


@dataclass(frozen=True)
class Trained:
    """The network of a finished run."""

    run_dir: Path
    recipe: Recipe  # with the overrides of the command
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
    target: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    runs: str | os.PathLike[str] = "runs",
    trust: bool = False,
) -> Trained:
    """Load the network of a finished run; of several seeds, that of the first.

    Args:
        target: a run directory, the folder of a recipe's runs, or a recipe.
        overrides: `path=value` texts, as for `kd.evaluate`.
        runs: where the runs of a recipe are.
        trust: whether the recipe, or an override, may name code outside kd.

    Raises:
        RecipeError: there is no finished run; the recipe is wrong, or names code that is not trusted.
        WeightsError: the weights are missing, damaged, or of another run.
        StorageError: another file of the run is missing or damaged.
    """
    found = find([os.fspath(target)], list(overrides), runs=Path(runs), trust=trust)
    if found.damaged:
        raise found.damaged[0]
    run_dir, recipe = found.targets[0]
    network = load_network(run_dir, recipe=recipe)
    result = read_result(run_dir)
    classes = tuple(next(iter(result.splits.values())).classes)
    environment = read_environment(run_dir)
    colors = environment.colors or distinct_colors(len(classes))
    if len(colors) != len(classes):
        raise RecipeError(f"{run_dir}: {len(colors)} colours for {len(classes)} classes; list a colour for each class")
    return Trained(run_dir, recipe, network, result, classes, tuple(colors), environment.in_channels)
