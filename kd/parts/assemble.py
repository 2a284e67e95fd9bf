"""Recipe -> Parts: the one place where everything meets."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kd import distributed
from kd.errors import RecipeError
from kd.machine import Precision, choose
from kd.parts.networks import folded_copy, freeze, moving_average, student_network, teacher_network
from kd.parts.objective import Supervised, Term
from kd.parts.roles import Student, Teacher
from kd.parts.terms import addresses, make_loss, make_terms, refused_taps
from kd.recipe import Recipe
from kd.runs import build_dataset
from kd.types import Batch, SegmentationDataset
from kd.units import multiples_near


@dataclass(frozen=True)
class Parts:
    """A recipe's objects before training: what `kd check`, `kd inspect` and `kd bench` look at too."""

    recipe: Recipe
    train: SegmentationDataset
    val: SegmentationDataset
    student: Student
    teacher: Teacher | None
    teacher_run: Path | None  # where the teacher's weights came from, if from a run
    terms: dict[str, Term]
    supervised: Supervised
    steps: int
    precision: Precision
    notes: list[str]  # what was loaded, what is slow: lines for the user
    ema: AveragedModel | None  # of the student's network alone
    teaching: Teacher | None  # the teacher as it works in a step: itself, or its copy with BatchNorm folded

    @property
    def averages_teach(self) -> bool:
        """Whether the student's own moving average is the teacher."""
        return self.recipe.teacher is not None and self.recipe.teacher.ema is not None

    @property
    def network(self) -> nn.Module:
        """The network whose weights are the result: the moving average's where `train.ema` asks for one."""
        if self.ema is None or self.recipe.train.ema is None:
            return self.student.network
        averaged: nn.Module = self.ema.module
        return averaged

    @property
    def scored(self) -> dict[str, tuple[nn.Module, nn.Module | None]]:
        """What an evaluation scores, by its name in the metrics: a network, and a teacher that it may agree with."""
        teacher = self.teacher.network if self.teacher is not None and self.recipe.evaluate.agreement else None
        both: dict[str, tuple[nn.Module, nn.Module | None]] = {
            "val": (self.network, None if teacher is self.network else teacher)
        }
        if self.network is not self.student.network:
            both["val_student"] = (self.student.network, None)
        elif self.ema is not None:
            both["val_ema"] = (self.ema.module, None)
        return both


def assemble(recipe: Recipe, *, runs: Path, seed: int, trained: bool = True) -> Parts:
    """Build everything that a recipe names.

    The student is built first from `seed`, so a recipe and its baseline twin start from the same weights.

    Args:
        recipe: checked in shape.
        runs: where run directories are.
        seed: of the initial weights.
        trained: False takes an unfinished teacher as it is built: for checks before it is trained.

    Raises:
        RecipeError: the parts do not fit.
        DataError: the data cannot be read.
    """
    _divide(recipe)
    train, val = (build_dataset(recipe, split) for split in ("train", "val"))
    if train.class_names != val.class_names:
        raise RecipeError(
            f"{recipe.data.dataset.at()}: train has the classes {train.class_names}, val {val.class_names}"
        )
    precision, steps, notes = _precision(recipe), total_steps(recipe, len(train)), list[str]()
    torch.manual_seed(seed)
    network = student_network(recipe, train, precision, notes)
    ema = moving_average(recipe, network)  # before any hook: a copy's hooks would fill the original's store
    student, terms = Student(network, {}, {}, {}), dict[str, Term]()
    teacher, teaching, teacher_run = None, None, None
    if recipe.teacher is not None:
        other, teacher_run = teacher_network(recipe, train, ema, notes, runs=runs, trained=trained)
        twin = folded_copy(recipe, other, train.in_channels, notes)  # copied before any hook
        with refused_taps(recipe, "teacher"):
            teacher = Teacher(other, addresses(recipe, "teacher"))
        teaching = teacher if twin is None else Teacher(twin, teacher.taps.addresses)
        with refused_taps(recipe, "student"):
            student = Student(network, addresses(recipe, "student"), {}, {})
        terms = make_terms(recipe, student, teacher, train, steps)
    freeze(recipe, student, steps)
    for role in filter(None, (student, teacher, teaching, ema)):
        role.to(precision.device).to(memory_format=precision.memory_format)
    loss = make_loss(recipe, recipe.supervised.loss, train)
    if isinstance(loss, nn.Module):
        loss.to(precision.device)
    return Parts(
        recipe,
        train,
        val,
        student,
        teacher,
        teacher_run,
        terms,
        Supervised(loss, recipe.supervised.aux_weight),
        steps,
        precision,
        notes,
        ema,
        teaching,
    )


def total_steps(recipe: Recipe, images: int) -> int:
    """The run's length in steps: `steps`, or ceil(epochs · images / batch size)."""
    if recipe.train.steps is not None:
        return recipe.train.steps
    assert recipe.train.epochs is not None
    return -(-recipe.train.epochs * images // recipe.train.batch_size)


def _precision(recipe: Recipe) -> Precision:
    try:
        return choose(recipe.device, recipe.train.precision, recipe.train.memory_format)
    except ValueError as error:
        raise RecipeError([f"{recipe.file}: {error}"]) from None


def _divide(recipe: Recipe) -> None:
    """Refuse a batch that cannot be shared equally."""
    size, processes, accumulate = recipe.train.batch_size, distributed.world(), recipe.train.accumulate
    parts = processes * accumulate
    if size % parts:
        raise RecipeError(
            f"{recipe.at('train', 'batch_size')}: train.batch_size: {size} images do not divide among {processes} "
            f"processes × {accumulate} micro-batches; the nearest that do: {multiples_near(size, parts)}"
        )


def example_batch(parts: Parts, size: tuple[int, int] = (64, 64), images: int = 2) -> Batch:
    """A made-up batch on the run's device: noise, and labels with every class and some ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    shape = (images, *size)
    noise: Tensor = torch.randint(
        0, 256, (images, parts.train.in_channels, *size), generator=generator, dtype=torch.uint8
    )
    labels = torch.randint(0, len(parts.train.class_names), shape, generator=generator)
    labels[:, : size[0] // 8] = 255
    device = parts.precision.device
    keys = torch.zeros(images, 2, dtype=torch.int64)
    return Batch(
        parts.precision.images(noise), labels.to(device), torch.ones(shape, dtype=torch.bool, device=device), keys
    )
