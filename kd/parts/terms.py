"""The terms of a recipe: where they read, their adapters, losses and weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from kd.components.build import build, refused_by
from kd.data.survey import survey
from kd.errors import RecipeError
from kd.networks.taps import Address, as_tuple
from kd.parts.objective import Term
from kd.parts.roles import Student, Teacher
from kd.recipe import Recipe, TermConfig, Use, teacher_recipe
from kd.schedules import ScoreDriven
from kd.types import Batch, SegmentationDataset


def addresses(recipe: Recipe, side: str) -> dict[str, Address]:
    """Where each term reads the student or the teacher."""
    return {name: getattr(term.at, side) if term.at else "logits" for name, term in recipe.distill.items()}


@contextmanager
def refused_taps(recipe: Recipe, side: str) -> Iterator[None]:
    """What `Taps` refuses, said at the address that it is about; anything else said of the whole network."""
    try:
        yield
    except ValueError as error:
        for name, term in recipe.distill.items():
            named = as_tuple(getattr(term.at, side)) if term.at else ()
            if any(str(error).startswith(f"tap '{address}':") for address in named):
                where = recipe.at("distill", name, "at", side)
                raise RecipeError(f"{where}: distill.{name}.at: the {side}: {error}") from None
        raise RecipeError(f"{recipe.at(side)}: the {side}: {error}") from None
    except Exception as error:  # noqa: BLE001  # a user's network may raise anything, and is theirs to mend
        use: Use | None = recipe.student.network
        if side == "teacher":
            its_recipe = teacher_recipe(recipe)  # names the network, if there is one
            use = its_recipe.student.network if its_recipe else recipe.teacher.network if recipe.teacher else None
        raise error if use is None else refused_by(use, error) from None


def make_terms(
    recipe: Recipe, student: Student, teacher: Teacher, data: SegmentationDataset, steps: int
) -> dict[str, Term]:
    """Every term, its adapter and loss as parts of the student.

    Raises:
        RecipeError: a tap shows nothing, or an adapter, loss or weight is not for its place.
    """
    channels = _meet_adapters(recipe, student, teacher, data.in_channels)
    terms = {}
    for name, term in recipe.distill.items():
        known = _known(term, teacher.network, name)
        loss = make_loss(recipe, term.loss, data, channels[name], known)
        if term.at is None and getattr(loss, "compares", "either") == "features":
            raise RecipeError(
                f"{term.loss.at()}: {term.loss.use} compares features: distill.{name} needs "
                "at: {student: …, teacher: …}"
            )
        if isinstance(loss, nn.Module):
            student.losses[name] = loss
        terms[name] = Term(loss, _factor(recipe, term, steps), term.resize, term.pixels, known)
    return terms


def _meet_adapters(recipe: Recipe, student: Student, teacher: Teacher, in_channels: int) -> dict[str, Any]:
    """Build each adapter for the channels that one forward pass shows; the teacher's channels by term."""
    channels: dict[str, Any] = {}
    images = torch.rand(2, in_channels, 64, 64, generator=torch.Generator().manual_seed(0))
    keys = torch.zeros(2, 2, dtype=torch.int64)
    blank = torch.zeros(2, 64, 64)
    training = student.training
    with torch.no_grad():
        with refused_taps(recipe, "student"):  # only a forward pass shows that a tapped module does not run, or twice
            ours = student.eval()(images).at
        with refused_taps(recipe, "teacher"):
            theirs = teacher(Batch(images, blank.long(), blank.bool(), keys)).at
    student.train(training)
    for name, term in recipe.distill.items():
        several = isinstance(ours[name], tuple)
        pairs = list(zip(*(one if several else (one,) for one in (ours[name], theirs[name])), strict=True))
        if term.adapter is not None:
            made = [_build_adapter(recipe, term.adapter, a.shape[1], b.shape[1]) for a, b in pairs]
            student.adapters[name] = nn.ModuleList(made) if several else made[0]
        counts = tuple(b.shape[1] for _, b in pairs)
        channels[name] = counts if several else counts[0]
    return channels


def _build_adapter(recipe: Recipe, use: Use, in_channels: int, out_channels: int) -> nn.Module:
    adapter: nn.Module = build(
        use, folder=recipe.folder, trust=recipe.trust, in_channels=in_channels, out_channels=out_channels
    )
    return adapter


def make_loss(
    recipe: Recipe, use: Use, data: SegmentationDataset, channels: Any = None, known: tuple[int, ...] = ()
) -> Any:
    """A loss; it and those in its arguments get the offered facts they name.

    Args:
        recipe: names it.
        use: the loss.
        data: the training split, whose labels are counted if the loss asks for it.
        channels: of the teacher's map, or of its maps.
        known: the classes that it compares; () for all.
    """
    labels = known or tuple(range(len(data.class_names)))
    facts: dict[str, Callable[[], Any]] = {
        "num_classes": lambda: len(labels),
        "channels": lambda: len(known) or channels,
        "label_counts": lambda: tuple(survey(data).counts[label] for label in labels),
    }
    return build(use, folder=recipe.folder, trust=recipe.trust, facts=facts)


def _known(term: TermConfig, teacher: nn.Module, name: str) -> tuple[int, ...]:
    """The classes that the teacher can speak of, for a term on logits; () for all."""
    known: tuple[int, ...] = getattr(teacher, "known", ())
    sides = (as_tuple(term.at.student), as_tuple(term.at.teacher)) if term.at else (("logits",), ("logits",))
    on_logits = any(_has_classes(a) and _has_classes(b) for a, b in zip(*sides, strict=True))
    if len(known) in (0, getattr(teacher, "num_classes", 0)) or not on_logits:
        return ()
    if len(sides[0]) > 1:
        raise RecipeError(
            f"{term.loss.at()}: distill.{name}.at: this teacher knows {len(known)} of the classes, so logits are "
            "compared by themselves; give them a term of their own"
        )
    return known


def _has_classes(address: str) -> bool:
    return address == "logits" or address.startswith("aux.")


def _factor(recipe: Recipe, term: TermConfig, steps: int) -> Callable[[int], float]:
    """The term's weight by step."""
    weight = term.weight
    if not isinstance(weight, Use):
        return lambda step: weight
    factor: Callable[[int], float] = build(weight, folder=recipe.folder, trust=recipe.trust, steps=steps)
    if isinstance(factor, ScoreDriven):
        raise RecipeError(f"{weight.at()}: {weight.use} is for the learning rate; a weight is told no scores")
    return factor
