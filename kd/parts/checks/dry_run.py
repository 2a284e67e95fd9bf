"""The last stages of checking: the calls fit, both networks run on one small batch, and every term can teach."""

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from kd.components import is_ours, is_users, refused_by
from kd.errors import RecipeError, raised
from kd.networks.taps import declared_taps
from kd.parts.assemble import Parts, assemble, example_batch, shapes_of
from kd.parts.checks.calls import check_calls
from kd.parts.checks.gradients import gradients, reached
from kd.parts.checks.meeting import meet, place
from kd.parts.checks.trial import refused_by_training
from kd.parts.data import Data
from kd.parts.networks import freeze
from kd.parts.optimizer import phase_ends
from kd.parts.roles import adapt, frozen_path, restored
from kd.parts.teacher.output import flaw
from kd.recipe import Recipe, Use
from kd.schedules import Plateau, ScoreDriven
from kd.scoring import check_metrics
from kd.types import Batch, Maps, Tapped, as_tuple, resize_labels, size_of, traits
from kd.units import as_steps


def open_parts(
    recipe: Recipe,
    *,
    runs: Path,
    seed: int | None = None,
    trained: bool = True,
    data: Data | None = None,
    surveyed: bool = False,
    met: bool = False,
) -> Parts:
    """Run all stages of checking after the recipe's shape, each finished before the next: the calls, then a dry run.

    Args:
        recipe: checked in shape.
        runs: where run directories are.
        seed: of the run; None: the recipe's first.
        trained: False takes an unfinished teacher as it is built.
        data: its datasets, if they are built.
        surveyed: whether the caller will survey the data: what takes long begins now.
        met: whether networks of these shapes have met their real images.

    Returns:
        The parts of the run, with a note for everything that a user should know.

    Raises:
        RecipeError: with all mistakes of the first stage that finds any.
        DataError: the data cannot be read.
    """
    check_calls(recipe, runs=runs)
    seed = recipe.train.seeds[0] if seed is None else seed
    parts = assemble(recipe, runs=runs, seed=seed, trained=trained, data=data, surveyed=surveyed)
    with parts.data.leaving_cores():
        parts.notes.extend(dry_run(parts))
        if not met:
            meet(parts)
    return parts


@contextmanager
def untouched(parts: Parts) -> Iterator[None]:
    """Restore, after the block, all that training changes: weights, buffers, frozen modules and random state."""
    training = parts.student.training
    try:
        with restored(parts.precision, *(module for module in (parts.student, parts.ema) if module is not None)):
            yield
    finally:
        freeze(parts.recipe, parts.student, parts.steps)
        parts.student.train(training)


def dry_run(parts: Parts) -> list[str]:
    """Run one forward and backward pass of everything; weights, buffers and random state do not change.

    Trainable parameters that no loss reaches are frozen, as DDP requires, and named.

    Returns:
        Lines for the user.

    Raises:
        RecipeError: a loss cannot be used, a term cannot teach this student, or a component that is built when training
            begins refuses its arguments; all such mistakes at once.
    """
    with untouched(parts):
        total, mistakes, notes = _total(parts)
        unreached = [] if mistakes else _unreached(parts, total)
        mistakes += refused_by_training(parts)  # last: an optimizer changes weights that the gradients are computed at
        if mistakes:
            raise RecipeError(mistakes)
    _refuse_other_shapes(parts)
    for name in unreached:
        parts.student.get_parameter(name).requires_grad_(False)
    return [*notes, *([f"no loss reaches {', '.join(unreached)}: frozen"] if unreached else [])]


def _refuse_other_shapes(parts: Parts) -> None:
    """Refuse a network whose forward makes what is saved: its weights do not fit the network as it is built."""
    use, shapes = parts.recipe.student.network, shapes_of(parts.student.network)
    for name in sorted({*shapes, *parts.shapes}):
        if shapes.get(name) != parts.shapes.get(name):
            raise RecipeError(
                f"{use.where()}: {use.use}: its first forward makes or replaces {name}, so that its weights would fit "
                "no network as it is built; make it in __init__, or as a buffer with persistent=False"
            )


def _unreached(parts: Parts, total: Tensor) -> list[str]:
    """The names of the trainable parameters that the losses do not reach."""
    recipe = parts.recipe
    losses = (*(term.loss for term in recipe.distill.values()), recipe.supervised.loss)
    with _differentiating(*losses, recipe.student.network):
        return [name for name, gradient in gradients(total, parts.student).items() if gradient is None]


@contextmanager
def _differentiating(*uses: Use) -> Iterator[None]:
    """Report an error of a backward pass at the first of these components that is the user's."""
    try:
        yield
    except (Exception, SystemExit) as error:
        users = [use for use in uses if not is_ours(use) and is_users(use, error)]
        if not users:
            raise  # a bug of ours
        raise RecipeError(
            f"{users[0].where()}: {users[0].use}: its gradient cannot be computed: {raised(error)}"
        ) from None


def _total(parts: Parts) -> tuple[Tensor, list[str], list[str]]:
    """The sum of all losses on an example batch, the mistakes in losses and metrics, and lines for the user."""
    student, recipe = parts.student, parts.recipe
    batch = example_batch(parts)
    student.train()
    try:
        output, teacher = _outputs(parts, batch)
    except RecipeError:  # a network may take its own size only
        batch = example_batch(parts, recipe.data.crop or recipe.data.size)
        output, teacher = _outputs(parts, batch)
    if teacher is not None and not parts.averages_teach and not bool(teacher.logits.isfinite().all()):
        raise RecipeError(f"{place(recipe, 'teacher')} {flaw(teacher.logits, None)}")  # and not the losses' fault
    losses, mistakes, notes = list[Tensor](), list[str](), list[str]()
    supervised = _supervised(parts, output, batch)
    if isinstance(supervised, Tensor):
        losses.append(supervised)
    else:
        mistakes.append(f"{recipe.supervised.loss.at()}: supervised: {supervised}")
    for name in parts.terms:
        assert teacher is not None
        loss = _distilled(parts, name, output, teacher, batch)
        if isinstance(loss, Tensor):
            losses.append(loss)
            notes += _idle_phases(parts, name, reached(loss, as_tuple(output.at[name]), student.network))
        else:
            mistakes.append(f"{recipe.distill[name].loss.at()}: distill.{name}: {loss}")
    mistakes += check_metrics(recipe, batch.labels[0], output.logits[0])
    return sum(losses, torch.zeros(())), mistakes, notes + _without_scores(parts)


def _without_scores(parts: Parts) -> list[str]:
    """A line for each key that counts evaluations, if the run has too few for it to act before the last one."""
    recipe, steps = parts.recipe, parts.steps
    schedule = parts.maker.build(recipe.schedule, steps=steps)
    counting = {} if recipe.train.patience is None else {"train.patience": recipe.train.patience}
    if isinstance(schedule, ScoreDriven):
        counting["schedule"] = schedule.patience.patience if isinstance(schedule, Plateau) else 1
    evaluations = -(-steps // (as_steps(recipe.train.evaluate_every, steps) or steps))
    lines = []
    for key, patience in counting.items():
        needed = patience + 2  # the best one, those that are no better, and the last
        if evaluations < needed:
            every = (steps - 1) // (needed - 1)
            lines.append(
                f"warning: {key} has no effect: it needs {needed} evaluations or more, and the run of {steps} steps "
                f"has {evaluations}" + (f"; set train.evaluate_every={every}" if every else "")
            )
    return lines


def _outputs(parts: Parts, batch: Batch) -> tuple[Tapped, Tapped | None]:
    """What the student returns for a batch, and the teacher."""
    teacher = parts.teacher.seeing(batch.images) if parts.teacher else None  # it ran when the terms were made
    use = parts.recipe.student.network
    try:
        student: Tapped = parts.student(batch.images)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a bug of ours is raised as it is
        raise refused_by(_failing(parts, batch), error) from None
    if not student.logits.requires_grad:
        raise RecipeError(
            f"{use.where()}: {use.use}: its logits give no gradient, so that nothing would train; remove detach(), "
            "argmax() or no_grad() from its forward, or let its parameters require gradients"
        )
    return student, teacher


def _failing(parts: Parts, batch: Batch) -> Use:
    """The part of the student that fails on a batch: the network, or an adapter after it."""
    failing = parts.recipe.student.network
    with suppress(Exception, SystemExit):  # the caller reports it
        maps = parts.student.taps(batch.images)[1]
        for name, adapter in parts.student.adapters.items():
            failing = parts.recipe.distill[name].adapter or failing
            adapt(adapter, maps[name])
    return failing


def _idle_phases(parts: Parts, name: str, parameters: Sequence[str]) -> list[str]:
    """A line for every phase in which a term, which reaches these parameters, reaches only frozen modules."""
    ends = [0, *phase_ends(parts.recipe, parts.steps), parts.steps]
    lines = []
    for phase, begin, end in zip(parts.recipe.phases, ends, ends[1:], strict=False):
        frozen = tuple(f"{frozen_path(parts.student.network, path)}." for path in phase.freeze)
        if all(parameter.startswith(frozen) for parameter in parameters):
            lines.append(
                f"distill.{name} reaches no trainable parameter in steps {begin} to {end}: "
                f"the phase freezes {', '.join(phase.freeze)}"
            )
    return lines


def _supervised(parts: Parts, student: Tapped, batch: Batch) -> Tensor | str:
    """The supervised loss, or what is wrong with it."""
    use, loss = parts.recipe.supervised.loss, parts.supervised.loss
    if hasattr(loss, "compares"):
        return f"{use.use} compares a student with a teacher; it belongs under distill"
    read = {"logits": [student.logits, *student.aux.values()], "labels": [batch.labels]}
    value = _value(use, loss, ("logits", "labels"), lambda: parts.supervised(student, batch.labels), read)
    if isinstance(value, Tensor) and not value.requires_grad:
        return "the loss gives no gradient; compute it from the logits, without argmax(), detach() or item()"
    return value


def _value(
    use: Use,
    loss: Callable[..., object],
    names: Sequence[str],
    call: Callable[[], Tensor],
    read: Mapping[str, Sequence[Tensor]],
    *,
    several: bool = False,
) -> Tensor | str:
    """What `call` returns, or why that is not a loss.

    Args:
        use: the loss.
        loss: as it was built.
        names: of its arguments.
        call: calls it.
        read: what other losses read too, by its name in a message.
        several: whether the arguments are tuples.
    """
    versions = {what: [tensor._version for tensor in tensors] for what, tensors in read.items()}
    try:
        parameters = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
        parameters.bind(*names)
    except TypeError:
        return f"{use.use} takes ({', '.join(parameters.parameters)}), but gets {', '.join(names)}"
    try:
        value = call()
    except ValueError as error:
        return str(error)
    except (Exception, SystemExit) as error:
        if not (several or is_users(use, error)):
            raise
        hint = "; `at` lists several taps, so it got tuples: name one tap per term" if several else ""
        return f"the loss raised {raised(error)}{hint}"
    if not math.isfinite(value.item()):
        return f"the loss is {value.item()} on a first batch; it must be finite"
    for what, tensors in read.items():
        if [tensor._version for tensor in tensors] != versions[what]:
            return f"the loss changes the {what}, which other losses read, in place; change a copy of it: x = x.clone()"
    return value


def _distilled(parts: Parts, name: str, student: Tapped, teacher: Tapped, batch: Batch) -> Tensor | str:
    """The loss of a term, or what is wrong with it."""
    assert parts.teacher is not None
    term, use, network = parts.terms[name], parts.recipe.distill[name].loss, parts.student.network
    maps = {"student": as_tuple(student.at[name]), "teacher": as_tuple(teacher.at[name])}
    several = isinstance(teacher.at[name], tuple)
    call = partial(term, name, student, teacher, batch)
    read = {**{f"{side}'s map": of_side for side, of_side in maps.items()}, "labels": (batch.labels,)}
    loss = _value(use, term.loss, ("student", "teacher", "labels"), call, read, several=several)
    if isinstance(loss, str):
        return loss
    if not loss.requires_grad:
        return "the loss gives no gradient; compute it from the student's tensor, without detach() or item()"
    certain = partial(term, name, student, _stand_in(name, teacher, batch), batch)
    with _differentiating(use, parts.recipe.student.network):
        teaches = reached(loss, maps["student"], network) or reached(certain(), maps["student"], network)
    if not teaches:
        taps = ", ".join(repr(tap) for tap in list(declared_taps(network))[-2:]) or "'logits'"
        return (
            "no gradient reaches a trainable parameter of the student's network: the tap is in or before a frozen "
            f"part, or the loss is constant; taps that would work: {taps}"
        )
    if traits(parts.teacher.network).shift_free:
        return _shift_dependence(parts, name, student, teacher, batch) or loss
    return loss


def _shift_dependence(parts: Parts, name: str, student: Tapped, teacher: Tapped, batch: Batch) -> str:
    """What is wrong with a term that depends on the constant per pixel by which an ensemble's logits may differ."""
    at = parts.recipe.distill[name].at
    generator = torch.Generator().manual_seed(0)

    def shifted(maps: Tensor, address: str) -> Tensor:
        shift = 3 * torch.randn(maps[:, :1].shape, generator=generator)  # nats: as much as logits differ
        return maps + shift.to(maps) if address == "logits" else maps

    maps = teacher.at[name]
    pairs = zip(as_tuple(maps), as_tuple(at.teacher if at else "logits"), strict=True)
    moved = tuple(shifted(*pair) for pair in pairs)
    values = []
    state = torch.get_rng_state()
    for given in (maps, moved if isinstance(maps, tuple) else moved[0]):
        torch.set_rng_state(state)  # the same random numbers, and a copy: a loss may have a memory
        term = replace(parts.terms[name], loss=copy.deepcopy(parts.terms[name].loss))
        values.append(term(name, student, teacher._replace(at=teacher.at | {name: given}), batch).item())
    if math.isclose(*values, rel_tol=1e-3, abs_tol=1e-5):
        return ""
    loss = parts.recipe.distill[name].loss.use.rpartition(".")[2]
    return (
        f"{loss} changes when a constant is added to all logits of a pixel ({values[0]:.4g} to {values[1]:.4g}), and "
        "an ensemble's logits are defined up to such a constant; compare probabilities (kd.losses.PixelKL, DKD, DIST)"
    )


def _stand_in(name: str, teacher: Tapped, batch: Batch) -> Tapped:
    """A teacher whose logits at the term are confident and right, and whose features are noise.

    The real teacher may be untrained, or uncertain on a made-up batch. A loss that uses only its certain answers, or
    that finds nothing in a blank map, is not a mistake.
    """
    generator = torch.Generator().manual_seed(0)
    classes = teacher.logits.shape[1]

    def instead(maps: Tensor) -> Tensor:
        if maps.shape[1] != classes:
            return torch.randn(maps.shape, generator=generator).to(maps)
        labels = resize_labels(batch.labels, size_of(maps)).clamp(max=classes - 1)
        return 20 * nn.functional.one_hot(labels, classes).movedim(3, 1).to(maps)

    maps = teacher.at[name]
    stand_in: Maps = tuple(map(instead, maps)) if isinstance(maps, tuple) else instead(maps)
    return teacher._replace(at=teacher.at | {name: stand_in})
