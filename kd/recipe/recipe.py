"""A recipe, and the same with other values."""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator

from kd.errors import nearest
from kd.recipe.identity import Scope, identity, plain
from kd.recipe.moved import old_identity
from kd.recipe.schema import (
    CacheConfig,
    DataConfig,
    EvaluateConfig,
    Flag,
    LogConfig,
    OptimizerConfig,
    PhaseConfig,
    Section,
    StudentConfig,
    SupervisedConfig,
    TeacherConfig,
    TermConfig,
    Text,
    TrackConfig,
    TrainConfig,
    Use,
    term_name,
)
from kd.recipe.sources import Sources


class Recipe(Section):
    """A recipe: networks, data, losses, and how to train."""

    teacher: TeacherConfig | None = Field(
        default=None, description="The network that teaches; without it, the student learns alone."
    )
    student: StudentConfig = Field(
        description="The network that learns; num_classes and in_channels come from the data."
    )
    data: DataConfig = Field(description="The dataset, and how its images reach the networks.")
    supervised: SupervisedConfig = Field(description="The loss against the labels.")
    distill: dict[Annotated[Text, AfterValidator(term_name)], TermConfig] = Field(
        default_factory=dict, description="The distillation terms by name.", validate_default=True
    )
    cache: CacheConfig | None = Field(
        default=None, description="Keep the teacher's outputs in files instead of computing them in every epoch."
    )
    optimizer: OptimizerConfig = Field(description="An optimizer of torch.optim; it receives the parameters.")
    schedule: Use = Field(
        default=Use(use="kd.schedules.poly", args={"power": 0.9}),
        description="Factor of the learning rate by step; it receives the number of steps.",
    )
    phases: tuple[PhaseConfig, ...] = Field(
        default=(),
        description="Parts of the run in order, each with its last step, frozen modules and learning rate.",
    )
    train: TrainConfig = Field(description="How long and how the student trains.")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="How images are scored.")
    log: Annotated[LogConfig, Scope.MACHINE] = Field(default=LogConfig(), description="What is shown and logged.")
    track: Annotated[TrackConfig | None, Scope.MACHINE] = Field(
        default=None,
        description="The Weights & Biases project that also receives the curves; W&B itself reads its key and mode.",
    )
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Scope.MACHINE] = Field(
        default="auto", description="`auto`: the CUDA GPU, or the CPU; `mps`: an Apple GPU, in float32."
    )
    deterministic: Annotated[Flag, Scope.MACHINE] = Field(
        default=False,
        description="Whether a rerun on this machine gives the same bits; an operation that prevents it is an error.",
    )

    _file: Path = PrivateAttr(default=Path("recipe.yaml"))
    _trust: bool = PrivateAttr(default=False)
    _overrides: tuple[str, ...] = PrivateAttr(default=())
    _id: str = PrivateAttr(default="")
    _teacher_recipe: "Recipe | None" = PrivateAttr(default=None)
    _old_id: str = PrivateAttr(default="")
    _sources: Sources = PrivateAttr(default_factory=Sources)
    _found: dict[str, Any] = PrivateAttr(default_factory=dict)

    @field_validator("distill")
    @classmethod
    def _both_or_none(cls, distill: dict[str, TermConfig], info: ValidationInfo) -> dict[str, TermConfig]:
        if "teacher" in info.data and bool(distill) != (info.data["teacher"] is not None):
            raise ValueError(
                "terms need a teacher; add `teacher`, or remove `distill`"
                if distill
                else "a teacher needs at least one term; add `distill`, or remove `teacher`"
            )
        data = info.data.get("data")
        if data is not None and data.unlabelled and all(term.pixels == "valid" for term in distill.values()):
            fix = f"set distill.{next(iter(distill))}.pixels=all" if distill else "add a teacher and `distill`"
            raise ValueError(f"no term learns from the images of data.unlabelled; {fix}, or remove data.unlabelled")
        return distill

    @field_validator("train")
    @classmethod
    def _lasting(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        teacher, data = info.data.get("teacher"), info.data.get("data")
        if info.data.get("cache") is None or teacher is None or data is None:
            return train
        if reason := _changing(teacher, data, train):
            raise ValueError(f"{reason}; remove `cache`")
        return train

    @field_validator("train")
    @classmethod
    def _foreseen(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        teacher = info.data.get("teacher")
        if train.accumulate == "auto" and teacher is not None and teacher.precision == "int8":
            raise ValueError("accumulate: auto does not foresee the memory of a teacher in INT8; give a number")
        return train

    @field_validator("train")
    @classmethod
    def _one_average(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        teacher = info.data.get("teacher")
        teacher_ema = teacher.ema if teacher is not None else None
        if train.fold_batchnorm and teacher_ema is not None:
            raise ValueError("a teacher that is a moving average changes with every step; remove fold_batchnorm")
        if None not in (train.ema, teacher_ema) and train.ema != teacher_ema:
            raise ValueError(
                f"ema {train.ema} and teacher.ema {teacher_ema} are decays of the same moving average; make them equal"
            )
        return train

    @field_validator("phases")
    @classmethod
    def _until_the_end(cls, phases: tuple[PhaseConfig, ...]) -> tuple[PhaseConfig, ...]:
        if any((phase.until is None) != (phase is phases[-1]) for phase in phases):
            raise ValueError("every phase but the last needs `until`, and the last has none")
        return phases

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.resolved() == other.resolved()

    def at(self, *keys: str | int) -> str:
        """`file:line:column` of the value at `keys`; "recipe" if it was made in Python.

        A value that is not in the file (a default) has the position of the section around it.
        """
        return str(nearest(self._positions, keys))

    @property
    def file(self) -> Path:
        """The file it was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """The file's folder, which `recipe:` and `file.py:` are relative to."""
        return self._file.parent

    @property
    def stem(self) -> str:
        """The file's name without suffix."""
        return self._file.stem

    @property
    def trust(self) -> bool:
        """Whether it may name code outside `kd.recipe.trust.TRUSTED`."""
        return self._trust

    @property
    def overrides(self) -> tuple[str, ...]:
        """The `path=value` texts it was read with."""
        return self._overrides

    @property
    def id(self) -> str:
        """The 8 hex digits that name its runs."""
        return self._id

    @property
    def old_id(self) -> str:
        """The id that versions 0.1 and 0.2 gave it."""
        return self._old_id

    @property
    def sources(self) -> Sources:
        """The files that it names, as they were when it was read."""
        return self._sources

    @property
    def teacher_recipe(self) -> "Recipe | None":
        """The recipe of its teacher, with the machine settings and trust of this one."""
        return self._teacher_recipe

    @property
    def unlabelled_size(self) -> int:
        """Images without labels per step."""
        unlabelled = self.data.unlabelled
        return 0 if unlabelled is None else round(unlabelled.ratio * self.train.batch_size)

    @property
    def images_per_step(self) -> int:
        """Images per step, with and without labels."""
        return self.train.batch_size + self.unlabelled_size

    @property
    def divisors(self) -> list[int]:
        """The numbers of micro-batches that share the images of a step equally, ascending."""
        size, unlabelled = math.gcd(self.train.batch_size, self.unlabelled_size), self.data.unlabelled
        least = 2 if unlabelled is not None and unlabelled.cutmix else 0  # an image is mixed with another one
        return [n for n in range(1, size + 1) if size % n == 0 and self.unlabelled_size // n >= least]

    @property
    def accumulate(self) -> int:
        """Micro-batches per step; of `auto` as long as nothing is found, the most that have two images or more."""
        given = self.train.accumulate
        if isinstance(given, int):
            return given
        most = next((number for number in reversed(self.divisors) if number < self.train.batch_size), 1)
        return int(self._found.get("accumulate", most))

    @property
    def compiled(self) -> str:
        """What is compiled: `off`, `teacher`, `student` or `all`; of `auto` as long as nothing is found, `off`."""
        given = self.train.compile
        return given if given != "auto" else str(self._found.get("compile", "off"))

    @property
    def found(self) -> dict[str, Any]:
        """The values of keys of `train` that are `auto`, as this machine has found them."""
        return self._found

    def with_found(self, **found: Any) -> Self:
        """The same recipe, with the same id, with what this machine has found for keys of `train` that are `auto`."""
        copy = self.model_copy()
        copy._found = self._found | found
        return copy

    def read_as(
        self,
        *,
        file: Path | None = None,
        trust: bool | None = None,
        overrides: tuple[str, ...] | None = None,
        id: str | None = None,
        sources: Sources | None = None,
        teacher: "Recipe | None" = None,
    ) -> Self:
        """The same values, with what their text does not hold: where and how they were read; None: as it is."""
        copy = self.model_copy()
        copy._file = self._file if file is None else file
        copy._trust = self._trust if trust is None else trust
        copy._overrides = self._overrides if overrides is None else overrides
        copy._id = self._id if id is None else id
        copy._sources = self._sources if sources is None else sources
        copy._teacher_recipe = self._teacher_recipe if teacher is None else teacher
        return copy

    @property
    def not_cached(self) -> str:
        """Why no cache can hold the teacher's maps; empty where one can."""
        return "no teacher" if self.teacher is None else _changing(self.teacher, self.data, self.train)

    @property
    def teaches_in_int8(self) -> bool:
        """Whether the teacher of the steps is quantised."""
        return self.teacher is not None and self.teacher.precision == "int8"

    @property
    def scored_size(self) -> tuple[int, int]:
        """(height, width) of images that are scored."""
        return self.evaluate.size or self.data.size

    def changed(self, **sections: Any) -> Self:
        """The same recipe with other values in some sections, and the resulting id; nothing is checked."""
        copy = self.model_copy(update=sections)
        if copy.teacher is None:
            copy._teacher_recipe = None
        teacher = copy._teacher_recipe
        copy._id = identity(copy, self._sources, None if teacher is None else teacher.id)
        copy._old_id = old_identity(copy, self._sources, None if teacher is None else teacher.old_id)
        return copy

    def resolved(self, without: Iterable[Scope] = ()) -> dict[str, Any]:
        """Plain data with the defaults, readable from any folder; reading it gives an equal recipe.

        Args:
            without: the scopes whose keys are left out.
        """
        tree: dict[str, Any] = plain(self, lambda component: _absolute(self.folder, component), without=without)
        if self.teacher is not None and self.teacher.recipe is not None:
            tree["teacher"]["recipe"] = os.path.abspath(self.folder / self.teacher.recipe)
        return tree


def _absolute(folder: Path, component: str) -> str:
    file, colon, name = component.rpartition(":")
    return f"{os.path.abspath(folder / file)}:{name}" if colon else component


def _changing(teacher: TeacherConfig, data: DataConfig, train: TrainConfig) -> str:
    """What changes a teacher's maps from step to step; empty where they stay the same."""
    if teacher.ema is not None:
        return "a teacher that is a moving average changes with every step"
    if train.scales != (1.0,):
        return "train.scales change the teacher's images in every step"
    if data.unlabelled is not None and data.unlabelled.cutmix:
        return "data.unlabelled.cutmix changes images in every step"
    return ""
