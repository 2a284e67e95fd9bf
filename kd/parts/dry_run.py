"""The last stage of checking: both networks meet on one small batch, and every term must be able to teach."""

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd.components.build import build, check_calls, refused_by
from kd.errors import RecipeError, raised
from kd.parts.assemble import Parts, assemble, example_batch
from kd.parts.objective import Term
from kd.parts.optimizer import make_optimizer, phase_ends
from kd.parts.roles import frozen_path
from kd.recipe import Recipe, Use, read_recipe, teacher_recipe
from kd.recipe.trust import is_trusted
from kd.types import Batch, Taken, Tapped, parameter_count, resize_labels


def check_recipe(file: str | Path, overrides: Sequence[str] = (), *, trust: bool = False, runs: Path) -> list[str]:
    """All three stages of checking, each finished before the next: shape, calls, meeting.

    Returns:
        Lines for the user: what would be trained, which weights were loaded, and what the losses remember.

    Raises:
        RecipeError: with all mistakes of the first stage that finds any.
        DataError: the data cannot be read.
    """
    recipe = read_recipe(file, overrides, trust=trust)
    check_calls(recipe)
    its_teacher = teacher_recipe(recipe)
    if its_teacher is not None:
        check_calls(its_teacher)
    parts = assemble(recipe, runs=runs, seed=recipe.train.seeds[0], trained=False)
    lines = meet(parts)
    student = f"{recipe.student.use} ({parameter_count(parts.student.network):,} parameters)"
    teacher = f", taught by {parameter_count(parts.teacher.network):,} parameters" if parts.teacher else ""
    seeds = f" × {len(recipe.train.seeds)} seeds" if len(recipe.train.seeds) > 1 else ""
    ok = f"{file}: ok: {student}{teacher}, {parts.steps} steps{seeds} on {parts.precision}"
    return [ok, *parts.notes, *_memories(parts), *lines]


def _memories(parts: Parts) -> list[str]:
    """A line for every loss that remembers more than a few numbers."""
    sizes = {
        name: sum(buffer.numel() * buffer.element_size() for buffer in loss.buffers())
        for name, loss in parts.student.losses.items()
    }
    return [f"distill.{name}: its memory takes {size / 1e6:.1f} MB" for name, size in sizes.items() if size > 1000]


def meet(parts: Parts) -> list[str]:
    """One forward and backward of everything; all that was touched is put back.

    Trainable parameters that no loss reaches are frozen here (DDP needs to know) and named.

    Returns:
        Lines for the user.

    Raises:
        RecipeError: a loss cannot be used, a term cannot teach this student, or what only training calls refuses its
            arguments; all such mistakes at once.
    """
    student, recipe = parts.student, parts.recipe
    before = copy.deepcopy(student.state_dict())
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
        where = f"{use.at()}: distill.{name}"
        loss, mistake = _try(name, use, term, output, teacher, batch, student.network)
        if mistake is None and parts.teacher is not None and getattr(parts.teacher.network, "shift_free", False):
            mistake = _compares_shifts(name, parts, output, teacher, batch)
        if mistake is not None:
            mistakes.append(f"{where}: {mistake}")
        elif loss is not None:
            notes += _resting(name, loss, parts)
            total = loss if total is None else total + loss
    mistakes += _uncalled(recipe, parts)
    if mistakes:
        raise RecipeError(mistakes)
    assert total is not None
    gradients = _gradients(total, dict(student.named_parameters()))
    unreached = [name for name, gradient in gradients.items() if gradient is None]
    for name in unreached:
        student.get_parameter(name).requires_grad_(False)
    student.load_state_dict(before)
    return [*notes, *([f"no loss reaches {', '.join(unreached)}: frozen"] if unreached else [])]


def _resting(name: str, loss: Tensor, parts: Parts) -> list[str]:
    """A line for every phase in which a term reaches only modules that rest."""
    ends = [0, *phase_ends(parts.recipe, parts.steps), parts.steps]
    gradients = _gradients(loss, dict(parts.student.network.named_parameters()))
    reached = [parameter for parameter, gradient in gradients.items() if gradient is not None and bool(gradient.any())]
    lines = []
    for phase, begin, end in zip(parts.recipe.phases, ends, ends[1:], strict=False):
        rests = tuple(f"{frozen_path(parts.student.network, path)}." for path in phase.freeze)
        if all(parameter.startswith(rests) for parameter in reached):
            lines.append(
                f"distill.{name} reaches nothing that trains in steps {begin} to {end}: {', '.join(phase.freeze)} rests"
            )
    return lines


def _uncalled(recipe: Recipe, parts: Parts) -> list[str]:
    """What is wrong with the components that are built when training begins."""
    mistakes: list[str] = []
    makers: list[Callable[[], object]] = [lambda: make_optimizer(recipe, parts.student)]
    trusted: dict[str, Any] = {"folder": recipe.folder, "trust": recipe.trust}
    makers += [partial(build, use, **trusted) for use in recipe.data.augment]
    makers.append(partial(build, recipe.schedule, **trusted, steps=parts.steps))
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
    versions = {side: [one._version for one in _all(given)] for side, given in maps.items()}
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
        if [one._version for one in _all(given)] != versions[side]:
            return (
                None,
                f"the loss changes the {side}'s map in place, which others read too; write x = x * 2, not x *= 2",
            )
    if not loss.requires_grad:
        return None, "the loss gives no gradient; compute it from the student's tensor, without detach() or item()"
    if not (_reaches(loss, network) or _reaches(term(name, student, _stand_in(name, teacher, batch), batch), network)):
        taps = ", ".join(repr(tap) for tap in list(getattr(network, "taps", {}))[-2:]) or "'logits'"
        return None, (
            "no gradient reaches a trainable parameter of the student's network: the tap lies in or before a frozen "
            f"part, or the loss is constant; taps that would work: {taps}"
        )
    return loss, None


def _all(maps: Taken) -> tuple[Tensor, ...]:
    return maps if isinstance(maps, tuple) else (maps,)


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
        moved: Taken = tuple(shifted(maps, address) for maps, address in zip(there, addresses, strict=True))
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


def _reaches(loss: Tensor, network: nn.Module) -> bool:
    """Whether a trainable parameter gets a gradient other than 0."""
    gradients = _gradients(loss, dict(network.named_parameters())) if loss.requires_grad else {}
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients.values())


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


def _gradients(loss: Tensor, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor | None]:
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    if not trained:
        return {}
    found = torch.autograd.grad(loss, list(trained.values()), retain_graph=True, allow_unused=True)
    return dict(zip(trained, found, strict=True))
