"""The terms of a recipe: their taps, adapters, losses and weights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from kd import distributed
from kd.components import Maker, is_ours, refused_by
from kd.errors import RecipeError, TapError
from kd.losses.modifiers import Masked
from kd.losses.supervised.class_weights import METHODS
from kd.networks.taps import Address
from kd.parts.data import Data
from kd.parts.objective import Term
from kd.parts.roles import Student, Teacher
from kd.recipe import Recipe, TermConfig, Use
from kd.recipe.schema import components
from kd.schedules import ScoreDriven
from kd.types import Maps, as_tuple, traits

SMALL = (64, 64)  # pixels: the size of made-up images, unless a network takes its own size only


def addresses(recipe: Recipe, side: str) -> dict[str, Address]:
    """Where each term reads the student or the teacher."""
    return {name: getattr(term.at, side) if term.at else "logits" for name, term in recipe.distill.items()}


@contextmanager
def refused_taps(recipe: Recipe, side: str) -> Iterator[None]:
    """Report a `TapError` at the address that it names, and any other error at the network."""
    try:
        yield
    except TapError as error:
        for name, term in recipe.distill.items():
            if term.at is not None and error.address in as_tuple(getattr(term.at, side)):
                where = recipe.at("distill", name, "at", side)
                raise RecipeError(f"{where}: distill.{name}.at: the {side}: {error}") from None
        raise RecipeError(f"{recipe.at(side)}: the {side}: {error}") from None
    except ValueError as error:
        raise RecipeError(f"{recipe.at(side)}: the {side}: {error}") from None
    except Exception as error:  # noqa: BLE001  # a user's network may raise anything
        use: Use | None = recipe.student.network
        if side == "teacher":
            teacher = recipe.teacher_recipe  # names the network, if the teacher has a recipe
            use = teacher.student.network if teacher else recipe.teacher.network if recipe.teacher else None
        raise error if use is None else refused_by(use, error) from None


def make_terms(
    recipe: Recipe, maker: Maker, student: Student, teacher: Teacher, data: Data, steps: int
) -> dict[str, Term]:
    """Build every term; its adapter and loss become parts of the student.

    Raises:
        RecipeError: a tap has no map, or an adapter, loss or weight does not fit where it is used.
    """
    channels = _build_adapters(recipe, maker, student, teacher, data.train.in_channels)
    terms = {}
    for name, term in recipe.distill.items():
        known = _known(term, teacher.network, name)
        loss = make_loss(maker, term.loss, data, channels[name], known)
        if term.at is None and getattr(loss, "compares", "either") == "features":
            raise RecipeError(
                f"{term.loss.at()}: {term.loss.use} compares features: distill.{name} needs "
                "at: {student: …, teacher: …}"
            )
        if isinstance(loss, nn.Module):
            student.losses[name] = loss
        terms[name] = Term(
            loss, weight_by_step(maker, term, steps), term.resize, term.pixels, known, labelled_in_micro_batch(recipe)
        )
    return terms


def _build_adapters(
    recipe: Recipe, maker: Maker, student: Student, teacher: Teacher, in_channels: int
) -> dict[str, Any]:
    """Build each adapter for the channels that one forward pass shows.

    Returns:
        The channels of the teacher's map, or of its maps, by term.
    """
    try:
        student_maps, teacher_maps = _maps(recipe, student, teacher, in_channels, SMALL)
    except RecipeError:  # a network may take its own size only
        student_maps, teacher_maps = _maps(recipe, student, teacher, in_channels, recipe.data.crop or recipe.data.size)
    channels: dict[str, Any] = {}
    for name, term in recipe.distill.items():
        several = isinstance(student_maps[name], tuple)
        pairs = list(zip(as_tuple(student_maps[name]), as_tuple(teacher_maps[name]), strict=True))
        counts = [(from_student.shape[1], from_teacher.shape[1]) for from_student, from_teacher in pairs]
        if term.adapter is not None:
            adapters = [maker.module(term.adapter, "an adapter", in_channels=a, out_channels=b) for a, b in counts]
            student.adapters[name] = nn.ModuleList(adapters) if several else adapters[0]
        channels[name] = tuple(count for _, count in counts) if several else counts[0][1]
    return channels


def _maps(
    recipe: Recipe, student: Student, teacher: Teacher, in_channels: int, size: tuple[int, int]
) -> tuple[Mapping[str, Maps], Mapping[str, Maps]]:
    """The maps of both networks at every term, for two images of noise."""
    images = torch.rand(2, in_channels, *size, generator=torch.Generator().manual_seed(0))
    training = student.training
    with torch.no_grad():
        with refused_taps(recipe, "student"):  # only a forward pass shows that a tapped module runs once
            of_student = student.eval()(images).at
        with refused_taps(recipe, "teacher"):
            of_teacher = teacher.seeing(images).at
    student.train(training)
    return of_student, of_teacher


def make_loss(maker: Maker, use: Use, data: Data, channels: Any = None, known: tuple[int, ...] = ()) -> Any:
    """Build a loss; it and the losses in its arguments get the facts that they take as arguments.

    Args:
        maker: of the recipe.
        use: the loss.
        data: its training labels are counted if the loss reads `label_counts`.
        channels: of the teacher's map, or of its maps.
        known: the classes that the loss compares; () for all.

    Raises:
        RecipeError: a mask in the loss keeps none of these classes.
    """
    labels = known or tuple(range(len(data.train.class_names)))
    facts: dict[str, Callable[[], Any]] = {
        "num_classes": lambda: len(labels),
        "channels": lambda: len(known) or channels,
    }
    if _weighs(use):  # counting takes time
        facts["label_counts"] = lambda: tuple(data.survey("train").weighing[label] for label in labels)
    loss = maker.build(use, facts=facts)
    for part in loss.modules() if isinstance(loss, nn.Module) else ():
        if isinstance(part, Masked) and part.classes is not None:  # numbers of the data's classes, as in the recipe
            kept = tuple(labels.index(label) for label in part.classes if label in labels)
            if not kept:
                given = f"{use.at()}: {use.use}: classes: {list(part.classes)}"
                raise RecipeError(f"{given}, but the loss compares {list(labels)}; name one of these")
            part.classes = kept
    return loss


def _weighs(use: Use) -> bool:
    """Whether a loss may read label counts: it names a method that computes class weights, or is not of kd."""
    return not is_ours(use) or any(
        value in METHODS for part in (use, *components(use.args)) for value in map(str, part.args.values())
    )


def _known(term: TermConfig, teacher: nn.Module, name: str) -> tuple[int, ...]:
    """The classes that the teacher can predict, for a term on logits; () for all."""
    known = traits(teacher).known_classes
    sides = (as_tuple(term.at.student), as_tuple(term.at.teacher)) if term.at else (("logits",), ("logits",))
    on_logits = any(_has_classes(a) and _has_classes(b) for a, b in zip(*sides, strict=True))
    if not known or not on_logits:
        return ()
    if len(sides[0]) > 1:
        raise RecipeError(
            f"{term.loss.at()}: distill.{name}.at: this teacher knows {len(known)} of the classes, so a term on its "
            "logits reads nothing else; give the logits their own term"
        )
    return known


def labelled_in_micro_batch(recipe: Recipe) -> int | None:
    """The labelled images of a micro-batch, which come first; None: all are labelled."""
    parts = distributed.world() * recipe.accumulate
    return recipe.train.batch_size // parts if recipe.unlabelled_size else None


def _has_classes(address: str) -> bool:
    return address == "logits" or address.startswith("aux.")


def weight_by_step(maker: Maker, term: TermConfig, steps: int) -> Callable[[int], float]:
    """The weight of a term as a function of the step."""
    weight = term.weight
    if not isinstance(weight, Use):
        return lambda step: weight
    factor: Callable[[int], float] = maker.build(weight, steps=steps)
    if isinstance(factor, ScoreDriven):
        raise RecipeError(f"{weight.at()}: {weight.use} depends on scores and is for the learning rate only")
    return lambda step: float(factor(step))  # a schedule may return a tensor, which no report could write
