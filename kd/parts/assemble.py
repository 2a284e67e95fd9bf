"""Recipe -> Parts: the one place where everything is put together."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from kd import distributed
from kd.components import Maker
from kd.data.images.decode import size_text
from kd.data.splits.unlabelled import Joined
from kd.data.transforms.geometric import Geometric
from kd.data.transforms.photometric import Photometric
from kd.errors import RecipeError
from kd.machine import Precision, choose
from kd.parts.data import Data, agrees
from kd.parts.loading import Notes
from kd.parts.networks import folded_copy, freeze, moving_average, student_network, teacher_network
from kd.parts.objective import Supervised, Term
from kd.parts.roles import Sight, Student, Teacher, to_device
from kd.parts.teacher.int8 import check_int8
from kd.parts.terms import (
    SMALL,
    addresses,
    labelled_in_micro_batch,
    make_loss,
    make_terms,
    refused_taps,
    weight_by_step,
)
from kd.parts.trained import load_weights
from kd.recipe import Recipe, Use
from kd.runs import teacher_directories
from kd.types import IGNORE, Batch, SegmentationDataset
from kd.units import multiples_near

DISTORTED = 1.1  # factor by which an image may be stretched along one side


@dataclass(frozen=True)
class Parts:
    """A recipe's objects before training, which `kd check`, `kd inspect` and `kd bench` use too."""

    recipe: Recipe
    maker: Maker
    data: Data  # the whole splits, and what their labels hold
    train: SegmentationDataset  # the labelled images, which epochs count
    val: SegmentationDataset
    student: Student
    shapes: Mapping[str, torch.Size]  # of the tensors of the student's network as it was built
    teacher: Teacher | None
    teacher_run: Path | None  # the run directory that the teacher's weights came from, if from one
    terms: dict[str, Term]
    supervised: Supervised
    steps: int
    precision: Precision
    notes: Notes  # what was loaded, what is frozen, what is slow: lines for the user
    ema: AveragedModel | None  # of the student's network alone
    teaching: Teacher | None  # the teacher of the steps: `teacher`, or its copy with BatchNorm folded
    unlabelled: SegmentationDataset | None = None  # images without labels, which join every batch

    @cached_property
    def training(self) -> SegmentationDataset:
        """The images of the steps: `train`, then those without labels."""
        return self.train if self.unlabelled is None else Joined(self.train, self.unlabelled)

    @property
    def averages_teach(self) -> bool:
        """Whether the student's own moving average is the teacher."""
        return self.recipe.teacher is not None and self.recipe.teacher.ema is not None

    @property
    def network(self) -> nn.Module:
        """The network whose weights are the result: with `train.ema`, the moving average."""
        if self.ema is None or self.recipe.train.ema is None:
            return self.student.network
        averaged: nn.Module = self.ema.module
        return averaged

    @property
    def by_agreement(self) -> bool:
        """Whether agreement with the teacher is the score: val has no label, and so no other one."""
        return agrees(self.recipe) and self.data.survey("val").labelled == 0

    @property
    def scored(self) -> dict[str, tuple[nn.Module, nn.Module | None]]:
        """What an evaluation scores, by its name in the metrics: a network, and a teacher to measure agreement with."""
        teacher = self.teacher.network if self.teacher is not None and self.recipe.evaluate.agreement else None
        scored: dict[str, tuple[nn.Module, nn.Module | None]] = {
            "val": (self.network, None if teacher is self.network else teacher)
        }
        if self.network is not self.student.network:
            scored["val_student"] = (self.student.network, None)
        elif self.ema is not None:
            scored["val_ema"] = (self.ema.module, None)
        return {name: (network, teacher) for name, (network, _) in scored.items()} if self.by_agreement else scored


def assemble(
    recipe: Recipe, *, runs: Path, seed: int, trained: bool = True, data: Data | None = None, surveyed: bool = False
) -> Parts:
    """Build everything that a recipe names.

    The student is built first, from `seed`, so that a recipe and its baseline start from the same weights.

    Args:
        recipe: checked in shape.
        runs: where run directories are.
        seed: of the initial weights.
        trained: False takes an unfinished teacher as it is built; `with_trained_teacher` loads its weights later.
        data: of a recipe with the same `data` section; None: built here.
        surveyed: whether the caller will survey the data: what takes long begins now.

    Raises:
        RecipeError: the parts do not fit.
        DataError: the data cannot be read.
    """
    _check_batch_size(recipe)
    maker, data = Maker(recipe), data or Data(recipe)
    train, val, unlabelled = data.train, data.val, data.unlabelled(recipe)
    if surveyed:
        data.begin(recipe)
    precision, steps, notes = precision_of(recipe), total_steps(recipe, len(train)), Notes()
    if recipe.track is not None:  # a stranger's recipe may name the stranger's project
        account = recipe.track.entity or "your own account"
        notes.append(f"track: numbers and pictures go to Weights & Biases, project {recipe.track.project} of {account}")
    notes.extend(dict.fromkeys(note for split in (train, val, unlabelled) for note in getattr(split, "notes", ())))
    torch.manual_seed(seed)
    network = student_network(recipe, maker, train, precision, notes)
    shapes = shapes_of(network)
    ema = moving_average(recipe, network)  # before any hook: a copy's hooks would fill the original's store
    student, terms = Student(network, {}, {}, {}), dict[str, Term]()
    teacher: Teacher | None = None
    teaching: Teacher | None = None
    run_dir = None
    check_int8(recipe, precision, notes)
    if recipe.teacher is not None:
        teacher_net, run_dir = teacher_network(recipe, maker, train, ema, notes, runs=runs, trained=trained)
        with refused_taps(recipe, "teacher"):
            teacher = Teacher(teacher_net, addresses(recipe, "teacher"), _sight(recipe, maker, notes))
        teaching = _teaching(recipe, teacher, train.in_channels, notes)
        with refused_taps(recipe, "student"):
            student = Student(network, addresses(recipe, "student"), {}, {})
        terms = make_terms(recipe, maker, student, teacher, data, steps)
    loss = make_loss(maker, recipe.supervised.loss, data)
    if isinstance(loss, nn.Module):
        student.losses["supervised"] = loss
    freeze(recipe, student, steps)
    for module in (student, teacher, teaching, ema):
        if module is not None:
            module.to(precision.device).to(memory_format=precision.memory_format)
    return Parts(
        recipe=recipe,
        maker=maker,
        data=data,
        train=train,
        val=val,
        student=student,
        shapes=shapes,
        teacher=teacher,
        teacher_run=run_dir,
        terms=terms,
        supervised=Supervised(loss, recipe.supervised.aux_weight, labelled_in_micro_batch(recipe)),
        steps=steps,
        precision=precision,
        notes=notes,
        ema=ema,
        teaching=teaching,
        unlabelled=unlabelled,
    )


def shapes_of(network: nn.Module) -> dict[str, torch.Size]:
    """The shapes of all that is saved of a network, by name."""
    return {name: value.shape for name, value in network.state_dict().items() if isinstance(value, torch.Tensor)}


def with_trained_teacher(parts: Parts, runs: Path) -> Parts:
    """The same parts after the teacher's run has finished: its weights are loaded into the teacher's network.

    Args:
        parts: assembled with `trained=False`.
        runs: where run directories are.
    """
    teacher, recipe = parts.teacher, parts.recipe
    assert teacher is not None
    run_dir = teacher_directories(recipe, runs)[0]
    load_weights(run_dir, teacher.network)
    notes = Notes()
    teaching = _teaching(recipe, teacher, parts.train.in_channels, notes)
    parts.notes.extend(note for note in notes if note not in parts.notes)  # the trained weights may fold otherwise
    teaching.to(parts.precision.device).to(memory_format=parts.precision.memory_format)
    return replace(parts, teacher_run=run_dir, teaching=teaching)


def _teaching(recipe: Recipe, teacher: Teacher, in_channels: int, notes: Notes) -> Teacher:
    with teacher.taps.detached():
        folded = folded_copy(recipe, teacher.network, in_channels, notes)
    return teacher if folded is None else Teacher(folded, teacher.taps.addresses, teacher.sight)


def _sight(recipe: Recipe, maker: Maker, notes: Notes) -> Sight:
    """How the teacher sees the images of training, with lines for the user where that is not as the student does.

    Raises:
        RecipeError: `teacher.size` would distort the images.
    """
    assert recipe.teacher is not None
    sight = Sight(recipe.teacher.size, recipe.teacher.scale or 1.0, recipe.teacher.flip)
    given = recipe.data.crop or recipe.data.size
    seen = sight.size_of(given)
    ratio = seen[0] * given[1] / (seen[1] * given[0])
    if not 1 / DISTORTED < ratio < DISTORTED:
        raise RecipeError(
            f"{recipe.at('teacher', 'size')}: teacher.size: {list(seen)} has other proportions than the images of "
            f"training, {list(given)}; set teacher.size=null teacher.scale={round(seen[0] / given[0], 3):g}"
        )
    if sight != Sight():
        mirrored = " and their mirror images" if sight.flip else ""
        notes.append(f"teacher: sees images of {size_text(seen)}{mirrored}, and the student {size_text(given)}")
    if seen != given and (own := _unlike(recipe, maker)):
        notes.append(
            f"{own.where()}: {own.use} has neither place nor draw_change: the teacher sees the student's images, "
            "resized (docs/augmentation.md)"
        )
    return sight


def _unlike(recipe: Recipe, maker: Maker) -> Use | None:
    """The first transform that cannot change the teacher's image as it does the student's; None if all can."""
    return next((u for u in recipe.data.augment if not isinstance(maker.build(u), Geometric | Photometric)), None)


def with_length_of(parts: Parts, recipe: Recipe) -> Parts:
    """The same parts for a recipe that differs in `train.epochs` or `train.steps` only."""
    steps = total_steps(recipe, len(parts.train))
    terms = {
        name: replace(term, weight_at=weight_by_step(parts.maker, recipe.distill[name], steps))
        for name, term in parts.terms.items()
    }
    freeze(recipe, parts.student, steps)
    return replace(parts, recipe=recipe.with_found(**parts.recipe.found), steps=steps, terms=terms)


def in_micro_batches(parts: Parts, recipe: Recipe) -> Parts:
    """The same parts for a recipe that differs in the number of micro-batches."""
    labelled = labelled_in_micro_batch(recipe)
    terms = {name: replace(term, labelled=labelled) for name, term in parts.terms.items()}
    return replace(parts, recipe=recipe, terms=terms, supervised=replace(parts.supervised, labelled=labelled))


def total_steps(recipe: Recipe, images: int) -> int:
    """The length of the run in steps: `steps`, or ceil(epochs · images / batch size)."""
    if recipe.train.steps is not None:
        return recipe.train.steps
    assert recipe.train.epochs is not None
    return -(-recipe.train.epochs * images // recipe.train.batch_size)


def precision_of(recipe: Recipe) -> Precision:
    """Where and how a recipe's networks run.

    Raises:
        RecipeError: this machine has no such device, or the device not the precision.
    """
    try:
        return choose(recipe.device, recipe.train.precision, recipe.train.memory_format)
    except ValueError as error:
        raise RecipeError([f"{recipe.file}: {error}"]) from None


def _check_batch_size(recipe: Recipe) -> None:
    """Refuse a batch, or images without labels, that cannot be divided equally."""
    size, processes, accumulate = recipe.train.batch_size, distributed.world(), recipe.accumulate
    if recipe.train.accumulate == "auto" and processes > 1:
        raise RecipeError(
            f"{recipe.at('train', 'accumulate')}: train.accumulate: auto is found by one process, and this run has "
            f"{processes}; set train.accumulate=1, or the number that kd check finds for a process's share of the "
            f"images, train.batch_size={max(size // processes, 1)}"
        )
    parts = processes * accumulate
    if size % parts:
        raise RecipeError(
            f"{recipe.at('train', 'batch_size')}: train.batch_size: {size} is not divisible by {processes} "
            f"processes × {accumulate} micro-batches; the nearest multiples: {multiples_near(size, parts)}"
        )
    unlabelled = recipe.data.unlabelled
    images = 0.0 if unlabelled is None else unlabelled.ratio * size
    if unlabelled is not None and (abs(images - round(images)) > 1e-6 or round(images) % parts or images < 1):
        below = int(images / parts) * parts
        ratios = [f"{count / size:.6g}" for count in (below, below + parts) if count]
        raise RecipeError(
            f"{recipe.at('data', 'unlabelled', 'ratio')}: data.unlabelled.ratio: {unlabelled.ratio:g} × batch_size "
            f"{size} is {images:g} images, which {processes} processes × {accumulate} micro-batches cannot share; "
            f"the nearest ratios: {' and '.join(ratios)}"
        )
    if unlabelled is not None and unlabelled.cutmix and round(images) == parts:
        raise RecipeError(
            f"{recipe.at('data', 'unlabelled', 'cutmix')}: data.unlabelled.cutmix: a micro-batch has one image without "
            f"labels, and no other one to mix it with; set data.unlabelled.ratio={2 * parts / size:.6g}"
        )


def example_batch(parts: Parts, size: tuple[int, int] = SMALL, images: int = 2) -> Batch:
    """A made-up batch on the run's device: noise, and labels with every class and some ignored pixels."""
    generator, shape = torch.Generator().manual_seed(0), (images, *size)
    channels, classes = parts.train.in_channels, len(parts.train.class_names)
    noise = torch.randint(0, 256, (images, channels, *size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, classes, shape, generator=generator)
    labels[:, : size[0] // 8] = IGNORE
    inside, keys = torch.ones(shape, dtype=torch.bool), torch.zeros(images, 2, dtype=torch.int64)
    return to_device(Batch(noise, labels, inside, keys), parts.precision)
