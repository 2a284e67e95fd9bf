"""The datasets of a recipe and what their labels hold: built and surveyed once for all runs of a command."""

from collections.abc import Generator
from contextlib import AbstractContextManager, suppress
from typing import Any

import torch

from kd import distributed
from kd.components import Maker, is_ours
from kd.console import progress
from kd.data.aspect import Size, image_sizes, swapped, swapped_window
from kd.data.splits.duplicates import Begun, begin_looks, find_shared
from kd.data.splits.survey import Survey, begin_survey, summarize, survey
from kd.data.splits.unlabelled import Joined, OtherImages, Unlabelled
from kd.errors import DataError, RecipeError
from kd.machine import loader_workers, torch_threads
from kd.memory import lasting_objects
from kd.recipe import Recipe
from kd.types import SegmentationDataset

MANY = 2000  # training images, which workers read beside what follows


class Data:
    """The training and validation split of a recipe.

    Args:
        recipe: checked in shape.
        quiet: show no progress.

    Raises:
        RecipeError: the dataset cannot be built, or its splits have different classes.
        DataError: its files are missing or wrong.
    """

    def __init__(self, recipe: Recipe, *, quiet: bool = False) -> None:
        maker = Maker(recipe)
        with lasting_objects():  # the names and files of many images
            self.train, self.val = (maker.dataset(split) for split in ("train", "val"))
        if self.train.class_names != self.val.class_names:
            raise RecipeError(
                f"{recipe.data.dataset.at()}: train has the classes {self.train.class_names}, "
                f"but val has {self.val.class_names}; give both the same"
            )
        self._quiet = quiet or distributed.rank() != 0
        self._workers = loader_workers(recipe.data.workers)
        self._surveys: dict[str, Survey] = {}
        self._sizes: list[Size] | None = None  # of some training images
        self._held_out: dict[str, SegmentationDataset] | None = None
        self._shared: dict[str, list[str]] = {}  # lines on images that two splits share, by `_others`
        self._unlabelled: dict[str, SegmentationDataset] = {}  # by `_others`
        self._tallies: dict[str, Generator[Any]] = {}  # by split, where `begin` was called
        self._looks: dict[str, Begun] = {}  # of the training images, by `_others`, where `begin` was called

    def begin(self, recipe: Recipe) -> None:
        """Let workers read many training images beside what follows, for `survey` and `lines`.

        Raises:
            DataError: as `unlabelled`.
        """
        if not self._workers or len(self.train) < MANY or "train" in self._tallies | self._surveys:
            return
        workers, rank = max(self._workers // 2, 1), distributed.rank()
        self._tallies["train"] = begin_survey(self.train, workers=workers, rank=rank, world=distributed.world())
        if rank == 0:
            self._looks[_others(recipe)] = begin_looks(self.training(recipe), workers=workers)

    def leaving_cores(self) -> AbstractContextManager[None]:
        """In the block, torch leaves the cores to workers that `begin` started: on all of them, it waits for theirs."""
        return torch_threads(torch.get_num_threads() - (self._workers if self._tallies else 0))

    def unlabelled(self, recipe: Recipe) -> SegmentationDataset | None:
        """The images without labels of a recipe with these data.

        Raises:
            DataError: there are none, or one cannot be read.
        """
        config = recipe.data.unlabelled
        if config is None:
            return None
        key = _others(recipe)
        if key not in self._unlabelled:
            splits = {"train": self.train} | self.held_out(recipe)
            if config.images is None:
                others = Maker(recipe).dataset("train", **config.args)
                self._unlabelled[key] = OtherImages(others, splits)
            else:
                self._unlabelled[key] = Unlabelled(config.images, self.train, splits)
        return self._unlabelled[key]

    def training(self, recipe: Recipe) -> SegmentationDataset:
        """All images that a recipe trains on: the training split, then the images without labels."""
        unlabelled = self.unlabelled(recipe)
        return self.train if unlabelled is None else Joined(self.train, unlabelled)

    def survey(self, split: str) -> Survey:
        """The survey of "train" or "val", which is made once; every rank counts its share.

        Raises:
            DataError: the split is empty, or a label cannot be read.
        """
        if split not in self._surveys:
            dataset: SegmentationDataset = getattr(self, split)
            with progress(f"counts the labels of {split}", len(dataset), quiet=self._quiet) as advance:
                self._surveys[split] = survey(
                    dataset,
                    workers=self._workers,
                    rank=distributed.rank(),
                    world=distributed.world(),
                    summed=distributed.summed,
                    advance=advance,
                    begun=self._tallies.pop(split, None),
                )
        return self._surveys[split]

    def lines(self, recipe: Recipe) -> list[str]:
        """Facts and warnings about both splits and the sizes of a recipe, for the user."""
        surveys = summarize(self.survey("train"), self.survey("val"), self.train.class_names)
        return surveys + self._suspected_sizes(recipe) + self._shared_images(recipe)

    def _shared_images(self, recipe: Recipe) -> list[str]:
        key = _others(recipe)
        if key not in self._shared:
            splits = {"train": self.training(recipe)} | self.held_out(recipe)
            total = sum(map(len, splits.values()))
            begun = {"train": self._looks.pop(key)} if key in self._looks else None
            with progress("compares the images of the splits", total, quiet=self._quiet) as advance:
                found, note = distributed.first(lambda: find_shared(splits, advance=advance, begun=begun))
            self._shared[key] = [line for pair in found for line in pair.lines()] + ([note] if note else [])
        return self._shared[key]

    def held_out(self, recipe: Recipe) -> dict[str, SegmentationDataset]:
        """The splits that no run of the recipe trains on: "val", and "test" if there is one."""
        if self._held_out is None:
            self._held_out = {"val": self.val}
            if is_ours(recipe.data.dataset):  # others may do anything for a split that is never used
                with suppress(RecipeError, DataError):
                    self._held_out["test"] = Maker(recipe).dataset("test")
        return self._held_out

    def _suspected_sizes(self, recipe: Recipe) -> list[str]:
        if self._sizes is None:
            self._sizes = image_sizes(self.train)
        data, scored = recipe.data, recipe.evaluate
        scored_by = "evaluate.size" if scored.size else "data.size"
        found = [
            swapped("data.size", data.size, self._sizes),
            data.crop and swapped_window("data.crop", data.crop, data.size, "data.size"),
            scored.size and swapped("evaluate.size", scored.size, self._sizes),
            scored.window and swapped_window("evaluate.window", scored.window, recipe.scored_size, scored_by),
        ]
        return [line for line in found if line]

    def check(self, recipe: Recipe) -> None:
        """Check that a recipe can learn from the training split and be scored on val.

        Raises:
            DataError: no pixel of train is labelled, and nothing teaches without labels; no pixel of val is labelled,
                and there is no teacher whose classes could take their place.
        """
        if self.survey("train").labelled == 0:
            if not recipe.distill:
                raise DataError(
                    "train: no pixel is labelled, so there is nothing to learn from; label some images, or "
                    "give a teacher with a term that has pixels: all (a baseline has none)"
                )
            if all(term.pixels == "valid" for term in recipe.distill.values()):
                first = next(iter(recipe.distill))
                raise DataError(
                    "train: no pixel is labelled, and no term learns from other pixels; set "
                    f"distill.{first}.pixels: all"
                )
        if self.survey("val").labelled == 0 and not agrees(recipe):
            if recipe.distill and not recipe.evaluate.agreement:
                fix = "set evaluate.agreement: true, and the score is the agreement with the teacher"
            else:
                fix = "label some of its images"
                if not recipe.distill:
                    fix += ", or give a teacher: the score is then the agreement with it"
            raise DataError(f"val: no pixel is labelled, so nothing can be scored; {fix}")


def _others(recipe: Recipe) -> str:
    """The folder or the arguments of a recipe's images without labels; "" if it has none."""
    config = recipe.data.unlabelled
    return "" if config is None else config.images or repr(config.args)


def agrees(recipe: Recipe) -> bool:
    """Whether agreement with a teacher can be the score of a recipe."""
    return recipe.teacher is not None and recipe.teacher.ema is None and recipe.evaluate.agreement
