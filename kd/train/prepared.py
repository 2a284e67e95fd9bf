"""The parts of the runs of one command, from their assembly until they are trained."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kd import distributed
from kd.data.dataset import FirstImages
from kd.inputs import has_inputs
from kd.parts.assemble import Parts, with_length_of, with_trained_teacher
from kd.parts.checks.dry_run import open_parts
from kd.parts.data import Data
from kd.parts.teacher.leakage import refuse_leak
from kd.recipe import Recipe, baseline_of
from kd.runs import run_directory
from kd.train.auto.settling import settled


class Prepared:
    """The parts of runs: each assembled and dry-run once; all that read the same data share its datasets.

    Args:
        runs: where run directories are.
        quiet: no live line.
        smoke: number of batches to score in trial runs, which take the teacher as it is built.
    """

    def __init__(self, runs: Path, *, quiet: bool, smoke: int | None) -> None:
        self._runs, self._quiet, self._smoke = runs, quiet, smoke
        self._met: set[str] = set()  # ids of the recipes that have met their real images
        self._found: dict[str, dict[str, Any]] = {}  # by id: what was measured for `auto`
        self._data: dict[str, Data] = {}  # by dataset and arguments
        self._parts: dict[tuple[str, int], Parts] = {}  # by id and seed, until they are trained

    def parts(self, recipe: Recipe, seed: int) -> Parts:
        """Assemble and dry-run the parts of a run before it is trained; an unfinished teacher is taken as it is built.

        Raises:
            RecipeError: the parts do not fit, or a term cannot teach.
            DataError: the data cannot be read.
        """
        key = (recipe.id, seed)
        if key not in self._parts:
            data, surveyed = self.data_of(recipe), not self.surveyed(recipe, seed)
            met = recipe.id in self._met  # all seeds have the same shapes
            parts = open_parts(recipe, runs=self._runs, seed=seed, trained=False, data=data, surveyed=surveyed, met=met)
            self._met.add(recipe.id)
            if surveyed:
                parts.data.check(recipe)
                leak = partial(refuse_leak, recipe, parts.data, runs=self._runs, data_of=self.data_of)
                parts.notes.extend(distributed.first(leak))
            parts = settled(parts, run_directory(recipe, self._runs, seed), self._found)
            self._parts[key] = parts
        return self._parts[key]

    def surveyed(self, recipe: Recipe, seed: int) -> bool:
        """Whether the data need no survey: a trial run, or one that resumes with the inputs that it began with."""
        run_dir = run_directory(recipe, self._runs, seed)
        return self._smoke is not None or distributed.first(lambda: has_inputs(run_dir))

    def data_of(self, recipe: Recipe) -> Data:
        """The datasets of a recipe: the same ones for every run of the session that reads the same data."""
        section = recipe.resolved()["data"]
        key = json.dumps([section["use"], [*section["args"].items()]], default=str)  # the order of classes counts
        if key not in self._data:
            self._data[key] = Data(recipe, quiet=self._quiet)
        return self._data[key]

    def with_epochs(self, recipe: Recipe, epochs: int) -> Recipe:
        """The recipe with another length; the prepared parts of it and of its baseline are kept."""
        changed = recipe.changed(train=recipe.train.model_copy(update={"epochs": epochs, "steps": None}))
        for before, after in ((recipe, changed), (baseline_of(recipe), baseline_of(changed))):
            for key in [key for key in self._parts if key[0] == before.id]:
                self._parts[after.id, key[1]] = with_length_of(self._parts.pop(key), after)
        return changed

    def take(self, recipe: Recipe, seed: int) -> Parts:
        """Take the prepared parts of a run, with its trained teacher, from those that are kept."""
        parts = self.parts(recipe, seed)
        del self._parts[recipe.id, seed]
        if self._smoke is not None:
            return replace(parts, val=FirstImages(parts.val, self._smoke * recipe.train.batch_size))
        if recipe.teacher_recipe is not None and parts.teacher_run is None:
            return with_trained_teacher(parts, self._runs)
        return parts
