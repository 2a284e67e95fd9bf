"""The last stages of checking: calls fit, both networks meet on one small batch, every term is able to teach."""

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd.components import Maker, refused_by
from kd.errors import RecipeError, raised
from kd.networks.taps import declared_taps
from kd.parts.assemble import Parts, assemble, example_batch
from kd.parts.gradients import gradients, reached
from kd.parts.networks import freeze
from kd.parts.objective import Term
from kd.parts.optimizer import make_optimizer, phase_ends
from kd.parts.roles import frozen_path
from kd.recipe import Recipe, Use, teachers
from kd.recipe.trust import is_trusted
from kd.scoring import check_metrics
from kd.types import Batch, Maps, Tapped, as_tuple, resize_labels, traits


def open_parts(recipe: Recipe, *, runs: Path, trained: bool = True) -> Parts:
    """All stages of checking after the recipe's shape, each finished before the next: calls, then a dry run.

    Args:
        recipe: checked in shape.
        runs: where run directories are.
        trained: False takes an unfinished teacher as it is built.

    Returns:
        The parts of the recipe's first seed, with a note for everything that a user should know.

    Raises:
        RecipeError: with all mistakes of the first stage that finds any.
        DataError: the data cannot be read.
    """
    for checked in (recipe, *teachers(recipe)):
        Maker(checked).check()
    parts = assemble(recipe, runs=runs, seed=recipe.train.seeds[0], trained=trained)
    parts.notes.extend(dry_run(parts))
    return parts


@contextmanager
def untouched(parts: Parts) -> Iterator[None]:
    """Put back, after the block, all that training changes: weights, buffers, frozen modules and random state."""
    device = parts.precision.device
    modules = [module for module in (parts.student, parts.ema) if module is not None]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    before = [tensor.detach().clone() for tensor in tensors]
    training = parts.student.training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    with torch.no_grad():
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
    freeze(parts.recipe, parts.student, parts.steps)
    parts.student.train(training)


def dry_run(parts: Parts) -> list[str]:
    """One forward and backward of everything; weights, buffers and random state stay as they are.

    Trainable parameters that no loss reaches are frozen here (DDP needs to know) and named.

    Returns:
        Lines for the user.

    Raises:
        RecipeError: a loss cannot be used, a term cannot teach this student, or what only training calls refuses its
            arguments; all such mistakes at once.
    """
    student = parts.student
    with untouched(parts):
        total, notes = _total(parts)
        unreached = [name for name, gradient in gradients(total, student).items() if gradient is None]
    for name in unreached:
        student.get_parameter(name).requires_grad_(False)
    return [*notes, *([f"no loss reaches {', '.join(unreached)}: frozen"] if unreached else [])]


def _total(parts: Parts) -> tuple[Tensor, list[str]]:
    """The sum of all losses on an example batch, and lines for the user."""
    student, recipe = parts.student, parts.recipe
    batch = example_batch(parts)
    student.train()
    teacher = parts.teacher(batch) if parts.teacher else None
    try:
        output = student(batch.images)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a bug of ours goes on as it is
        raise refused_by(recipe.student.network, error) from None
    mistakes: list[str] = []
    notes: list[str] = []
    total, mistake = _supervised(parts, output, batch)
    if mistake is not None:
        mistakes.append(f"{recipe.supervised.loss.at()}: supervised: {mistake}")
    for name, term in parts.terms.items():
        assert teacher is not None
        use = recipe.distill[name].loss
        loss, mistake = _try(name, use, term, output, teacher, batch, student.network)
        if mistake is None and parts.teacher is not None and traits(parts.teacher.network).shift_free:
            mistake = _compares_shifts(name, parts, output, teacher, batch)
        if mistake is not None:
            mistakes.append(f"{use.at()}: distill.{name}: {mistake}")
        elif loss is not None:
            notes += _idle_phases(name, loss, parts)
            total = loss if total is None else total + loss
    mistakes += check_metrics(recipe, batch.labels[0], output.logits[0])
    mistakes += _uncalled(parts)
    if mistakes:
        raise RecipeError(mistakes)
    assert total is not None
    return total, notes


def _idle_phases(name: str, loss: Tensor, parts: Parts) -> list[str]:
    """A line for every phase in which a term reaches only frozen modules."""
    ends = [0, *phase_ends(parts.recipe, parts.steps), parts.steps]
    parameters = reached(loss, parts.student.network)
    lines = []
    for phase, begin, end in zip(parts.recipe.phases, ends, ends[1:], strict=False):
        frozen = tuple(f"{frozen_path(parts.student.network, path)}." for path in phase.freeze)
        if all(parameter.startswith(frozen) for parameter in parameters):
            lines.append(
                f"distill.{name} reaches nothing that trains in steps {begin} to {end}: "
                f"{', '.join(phase.freeze)} is frozen"
            )
    return lines


def _uncalled(parts: Parts) -> list[str]:
    """What is wrong with the components that are built when training begins."""
    recipe, maker = parts.recipe, parts.maker
    makers: list[Callable[[], object]] = [lambda: make_optimizer(recipe, maker, parts.student)]
    makers += [partial(maker.build, use) for use in recipe.data.augment]
    makers.append(partial(maker.build, recipe.schedule, steps=parts.steps))
    mistakes: list[str] = []
    for make in makers:
        try:
            make()
        except RecipeError as error:
            mistakes += error.mistakes
    return mistakes


def _supervised(parts: Parts, student: Tapped, batch: Batch) -> tuple[Tensor | None, str | None]:
    """The supervised loss, or what is wrong with it."""
    use = parts.recipe.supervised.loss
    if hasattr(parts.supervised.loss, "compares"):
        return None, f"{use.use} compares a student with a teacher; it belongs under distill"
    return _value(use, parts.supervised.loss, ("logits", "labels"), lambda: parts.supervised(student, batch.labels))


def _value(
    use: Use, loss: Callable[..., object], given: Sequence[str], call: Callable[[], Tensor], *, several: bool = False
) -> tuple[Tensor | None, str | None]:
    """What a loss returns for the `given` arguments, or why that is no loss."""
    try:
        parameters = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
        parameters.bind(*given)
    except TypeError:
        return (
            None,
            f"{use.use} takes ({', '.join(parameters.parameters)}), but gets {', '.join(given)}",
        )
    try:
        value = call()
    except ValueError as error:
        return None, str(error)
    except (Exception, SystemExit) as error:
        if is_trusted(use.use) and not several:
            raise  # a bug of ours
        hint = "; `at` lists several taps, so it got tuples: name one tap a term" if several else ""
        return None, f"the loss raised {raised(error)}{hint}"
    if not isinstance(value, Tensor) or value.shape != ():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        return None, f"the loss must return a scalar tensor, not {shape}; take its mean"
    if not math.isfinite(value.item()):
        return None, f"the loss is {value.item()} on a first batch; it must be finite"
    return value, None


def _try(
    name: str, use: Use, term: Term, student: Tapped, teacher: Tapped, batch: Batch, network: nn.Module
) -> tuple[Tensor | None, str | None]:
    """The term's loss, or what is wrong with it."""
    maps = {"student": student.at[name], "teacher": teacher.at[name]}
    versions = {side: [tensor._version for tensor in as_tuple(given)] for side, given in maps.items()}
    several = isinstance(maps["teacher"], tuple)
    loss, mistake = _value(
        use,
        term.loss,
        ("student", "teacher", "labels"),
        lambda: term(name, student, teacher, batch),
        several=several,
    )
    if loss is None:
        return None, mistake
    for side, given in maps.items():
        if [tensor._version for tensor in as_tuple(given)] != versions[side]:
            return (
                None,
                f"the loss changes the {side}'s map in place, which others read too; write x = x * 2, not x *= 2",
            )
    if not loss.requires_grad:
        return None, "the loss gives no gradient; compute it from the student's tensor, without detach() or item()"
    if not (reached(loss, network) or reached(term(name, student, _stand_in(name, teacher, batch), batch), network)):
        taps = ", ".join(repr(tap) for tap in list(declared_taps(network))[-2:]) or "'logits'"
        return None, (
            "no gradient reaches a trainable parameter of the student's network: the tap lies in or before a frozen "
            f"part, or the loss is constant; taps that would work: {taps}"
        )
    return loss, None


def _compares_shifts(name: str, parts: Parts, student: Tapped, teacher: Tapped, batch: Batch) -> str | None:
    """What is wrong with a term that looks at the constant per pixel which an ensemble's logits leave open."""
    at = parts.recipe.distill[name].at
    addresses: Any = at.teacher if at else "logits"
    generator = torch.Generator().manual_seed(0)

    def shifted(maps: Tensor, address: str) -> Tensor:
        shift = 3 * torch.randn(maps[:, :1].shape, generator=generator)  # nats: as much as logits differ
        return maps + shift.to(maps) if address == "logits" else maps

    there = teacher.at[name]
    if isinstance(there, tuple):
        moved: Maps = tuple(shifted(maps, address) for maps, address in zip(there, addresses, strict=True))
    else:
        moved = shifted(there, addresses)
    values = []
    state = torch.get_rng_state()
    for maps in (there, moved):  # the same draws, and a copy: a loss with a memory would differ by that alone
        torch.set_rng_state(state)
        term = replace(parts.terms[name], loss=copy.deepcopy(parts.terms[name].loss))
        values.append(term(name, student, teacher._replace(at=teacher.at | {name: maps}), batch).item())
    if math.isclose(*values, rel_tol=1e-3, abs_tol=1e-5):
        return None
    loss = parts.recipe.distill[name].loss.use.rpartition(".")[2]
    return (
        f"{loss} changes when a constant is added to all logits of a pixel ({values[0]:.4g} to {values[1]:.4g}), and "
        "an ensemble's logits are defined up to such a constant; compare probabilities (kd.losses.PixelKL, DKD, DIST)"
    )


def _stand_in(name: str, teacher: Tapped, batch: Batch) -> Tapped:
    """A teacher that is right and sure at the term's logits, with noise for features.

    The real one may be untrained, or unsure on a made-up batch; a loss that takes only its certain answers, or finds
    nothing in a blank map, is no mistake then.
    """
    generator = torch.Generator().manual_seed(0)
    classes = teacher.logits.shape[1]

    def instead(maps: Tensor) -> Tensor:
        if maps.shape[1] != classes:
            return torch.randn(maps.shape, generator=generator).to(maps)
        labels = resize_labels(batch.labels, (maps.shape[-2], maps.shape[-1])).clamp(max=classes - 1)
        return 20 * nn.functional.one_hot(labels, classes).movedim(3, 1).to(maps)

    maps = teacher.at[name]
    stand_in = tuple(map(instead, maps)) if isinstance(maps, tuple) else instead(maps)
    return teacher._replace(at=teacher.at | {name: stand_in})
