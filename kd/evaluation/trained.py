"""A trained network, wherever it is: in a run directory, a file of weights, or a file for another runtime."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field
from torch import nn

from kd.components import Maker
from kd.data.masks.class_files import Color
from kd.data.masks.classes import distinct_colors
from kd.errors import RecipeError, StorageError, WeightsError
from kd.evaluation.targets import Target, find
from kd.files.checked import checked
from kd.networks.weights import load_into
from kd.parts.trained import load_network
from kd.recipe import Recipe
from kd.recipe.overrides import listed
from kd.recipe.schema import EvaluateConfig
from kd.runs import Result, read_environment, read_origin, read_result
from kd.runtimes.exported import SUFFIXES, Facts, open_file

STATED = ("classes", "colors", "in_channels")  # by weights, each as JSON

_Level = Annotated[int, Field(ge=0, le=255)]


class _Stated(NamedTuple):
    """The values of `STATED`."""

    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=255)]
    colors: tuple[tuple[_Level, _Level, _Level], ...]
    in_channels: Annotated[int, Field(ge=1)]


class Identity(NamedTuple):
    """Whose network it is, as a result has it too."""

    name: str
    id: str
    seed: int
    role: str
    network: str


@dataclass(frozen=True)
class Trained:
    """A trained network."""

    path: Path  # a run directory, or the file
    recipe: Recipe  # by which it is used, with the overrides of the command
    network: nn.Module  # in evaluation mode, on the CPU
    identity: Identity
    classes: tuple[str, ...]
    colors: tuple[Color, ...]  # of the classes; made up where none were recorded
    in_channels: int
    result: Result | None = None  # of a run directory

    @property
    def of_run(self) -> Result:
        """The result of the run.

        Raises:
            RecipeError: the network is a file that has left its run.
        """
        if self.result is None:
            raise RecipeError(f"{self.path}: a file, not a run; name the run directory or the recipe")
        return self.result

    def __str__(self) -> str:
        """One line for the user."""
        height, width = self.recipe.scored_size
        return f"{self.path}: {self.identity.network}, {len(self.classes)} classes, images scored at {width}×{height}"


def load(target: Target) -> Trained:
    """Load the network of a target.

    Raises:
        RecipeError: the recipe does not fit the network; or a package is not installed.
        WeightsError: the weights are missing, damaged, or do not fit.
        StorageError: another file of the run is missing or damaged.
    """
    path, recipe = target
    if path.is_dir():
        return _of_run(path, recipe)
    return _exported(path, recipe) if path.suffix in SUFFIXES else _of_weights(path, recipe)


def _of_run(run_dir: Path, recipe: Recipe) -> Trained:
    network = load_network(run_dir, recipe=recipe)
    result, environment = read_result(run_dir), read_environment(run_dir)
    identity = Identity(result.name, result.id, result.seed, result.role, result.network)
    classes = tuple(next(iter(result.splits.values())).classes)
    colors = _colors(run_dir, environment.colors, len(classes))
    return Trained(run_dir, recipe, network, identity, classes, colors, environment.in_channels, result)


def _of_weights(file: Path, recipe: Recipe) -> Trained:
    """A file of weights; where it does not state its classes, they are those of the recipe's data."""
    origin = _origin(file)
    if set(STATED) <= origin.keys():
        try:
            stated = checked(f"[{','.join(origin[key] for key in STATED)}]".encode(), _Stated, str(file))
        except StorageError as error:
            raise WeightsError(f"{error} (what it states of its classes, colours and channels)") from None
        classes, colors, channels = stated
    else:
        data = Maker(recipe).dataset("val")
        classes, colors, channels = data.class_names, data.colors, data.in_channels
    network = Maker(recipe).network(recipe.student.network, len(classes), channels)
    try:
        load_into(network, os.fspath(file), role="teacher")
    except ValueError as error:
        raise WeightsError(f"{file}: {error}") from None
    identity = _identity(file, origin, recipe)
    return Trained(file, recipe, network.eval(), identity, classes, _colors(file, colors, len(classes)), channels)


def _exported(file: Path, recipe: Recipe) -> Trained:
    network, facts = open_file(file)
    identity = _identity(file, _origin(file), recipe)
    colors = _colors(file, facts.colors, len(facts.classes))
    return Trained(file, _of_file(recipe, facts), network, identity, facts.classes, colors, facts.channels)


def _of_file(recipe: Recipe, facts: Facts) -> Recipe:
    """The recipe by which an exported file is used: on the CPU, and unless it takes all sizes, at its own."""
    how, train = recipe.evaluate, recipe.train.model_copy(update={"precision": "fp32", "memory_format": "contiguous"})
    if not facts.dynamic and how.window != facts.size:
        how = how.model_copy(update={"size": facts.size, "window": None, "scales": EvaluateConfig().scales})
    return recipe.changed(device="cpu", train=train, evaluate=how)


def _origin(file: Path) -> dict[str, str]:
    """What a file states on where it comes from; nothing of a file that states no recipe."""
    try:
        return read_origin(file)
    except StorageError:
        return {}


def _identity(file: Path, origin: dict[str, str], recipe: Recipe) -> Identity:
    id, _, seed = origin.get("run", "").partition("/seed")
    network = origin.get("network", recipe.student.use)
    number = int(seed) if re.fullmatch(r"[0-9]{1,9}", seed) else 0
    return Identity(origin.get("name", file.stem), id, number, origin.get("role", "student"), network)


def _colors(path: Path, colors: Iterable[Color], number: int) -> tuple[Color, ...]:
    listed = tuple(colors) or tuple(distinct_colors(number))
    if len(listed) != number:
        raise RecipeError(f"{path}: {len(listed)} colours for {number} classes; list a colour for each class")
    return listed


def open_trained(
    target: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    recipe: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    trust: bool = False,
) -> Trained:
    """Load a trained network; of several seeds, that of the first.

    Args:
        target: a run directory, the folder of a recipe's runs, a recipe, or a file of a network.
        overrides: `path=value` texts, as for `kd.evaluate`.
        recipe: of a file that states none.
        runs: where the runs of a recipe are.
        trust: whether the recipe, or an override, may name code outside kd.

    Raises:
        RecipeError: there is no finished run; the recipe is wrong, or names code that is not trusted.
        WeightsError: the weights are missing, damaged, or of another run.
        StorageError: another file of the run is missing or damaged; or a file states no recipe.
    """
    trust = trust or Path(target).suffix in SUFFIXES  # for an exported file, no component of a recipe is built
    found = find([os.fspath(target)], listed(overrides), recipe=recipe, runs=Path(runs), trust=trust)
    if found.damaged:
        raise found.damaged[0]
    return load(found.targets[0])
