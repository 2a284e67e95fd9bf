"""Recipe -> Parts: the one place where everything meets."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kd import distributed
from kd.components import Maker
from kd.errors import RecipeError
from kd.machine import Precision, choose
from kd.parts.networks import folded_copy, freeze, moving_average, student_network, teacher_network
from kd.parts.objective import Supervised, Term
from kd.parts.roles import Student, Teacher
from kd.parts.terms import addresses, make_loss, make_terms, refused_taps, weight_by_step
from kd.parts.trained import load_weights
from kd.recipe import Recipe
from kd.runs import teacher_directories
from kd.types import Batch, SegmentationDataset
from kd.units import multiples_near


@dataclass(frozen=True)
class Parts:
    """A recipe's objects before training: what `kd check`, `kd inspect` and `kd bench` look at too."""

    recipe: Recipe
    maker: Maker
    train: SegmentationDataset
    val: SegmentationDataset
    student: Student
    teacher: Teacher | None
    teacher_run: Path | None  # the run directory that the teacher's weights came from, if from one
    terms: dict[str, Term]
    supervised: Supervised
    steps: int
    precision: Precision
    notes: list[str]  # what was loaded, what is frozen, what is slow: lines for the user
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

    The student is built first from `seed`, so a recipe and its baseline start from the same weights.

    Args:
        recipe: checked in shape.
        runs: where run directories are.
        seed: of the initial weights.
        trained: False takes an unfinished teacher as it is built; `with_trained_teacher` loads its weights later.

    Raises:
        RecipeError: the parts do not fit.
        DataError: the data cannot be read.
    """
    _divide(recipe)
    maker = Maker(recipe)
    train, val = (maker.dataset(split) for split in ("train", "val"))
    if train.class_names != val.class_names:
        raise RecipeError(
            f"{recipe.data.dataset.at()}: train has the classes {train.class_names}, val {val.class_names}"
        )
    precision, steps, notes = _precision(recipe), total_steps(recipe, len(train)), list[str]()
    torch.manual_seed(seed)
    network = student_network(recipe, maker, train, precision, notes)
    ema = moving_average(recipe, network)  # before any hook: a copy's hooks would fill the original's store
    student, terms = Student(network, {}, {}, {}), dict[str, Term]()
    teacher, folded, run_dir = None, None, None
    if recipe.teacher is not None:
        teacher_net, run_dir = teacher_network(recipe, maker, train, ema, notes, runs=runs, trained=trained)
        folded = folded_copy(recipe, teacher_net, train.in_channels, notes)  # copied before any hook
        with refused_taps(recipe, "teacher"):
            teacher = Teacher(teacher_net, addresses(recipe, "teacher"))
        with refused_taps(recipe, "student"):
            student = Student(network, addresses(recipe, "student"), {}, {})
        terms = make_terms(recipe, maker, student, teacher, train, steps)
    freeze(recipe, student, steps)
    loss = make_loss(maker, recipe.supervised.loss, train)
    parts = Parts(
        recipe=recipe,
        maker=maker,
        train=train,
        val=val,
        student=student,
        teacher=teacher,
        teacher_run=run_dir,
        terms=terms,
        supervised=Supervised(loss, recipe.supervised.aux_weight),
        steps=steps,
        precision=precision,
        notes=notes,
        ema=ema,
        teaching=teacher if folded is None or teacher is None else Teacher(folded, teacher.taps.addresses),
    )
    for module in (student, teacher, parts.teaching, ema, loss):
        if isinstance(module, nn.Module):
            module.to(precision.device)
            if module is not loss:
                module.to(memory_format=precision.memory_format)
    return parts


def with_trained_teacher(parts: Parts, runs: Path) -> Parts:
    """The same objects once the teacher's run has finished: its weights are loaded into the network that is there.

    Args:
        parts: assembled with `trained=False`.
        runs: where run directories are.
    """
    teacher, recipe = parts.teacher, parts.recipe
    assert teacher is not None
    run_dir = teacher_directories(recipe, runs)[0]
    load_weights(run_dir, teacher.network)
    with teacher.taps.detached():
        folded = folded_copy(recipe, teacher.network, parts.train.in_channels, [])  # noted when it was assembled
    teaching = teacher if folded is None else Teacher(folded, teacher.taps.addresses)
    teaching.to(parts.precision.device).to(memory_format=parts.precision.memory_format)
    return replace(parts, teacher_run=run_dir, teaching=teaching)


def with_length_of(parts: Parts, recipe: Recipe) -> Parts:
    """The same objects for a recipe that differs in `train.epochs` or `train.steps` alone."""
    steps = total_steps(recipe, len(parts.train))
    terms = {
        name: replace(term, weight_at=weight_by_step(parts.maker, recipe.distill[name], steps))
        for name, term in parts.terms.items()
    }
    freeze(recipe, parts.student, steps)
    return replace(parts, recipe=recipe, steps=steps, terms=terms)


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
