"""Parts -> TrainState: the optimizer, the stream of images, and the teacher that a step calls."""

from collections.abc import Callable

from kd import distributed
from kd.parts.assemble import Parts, example_batch
from kd.parts.compiling import compile_roles
from kd.parts.optimizer import make_optimizer
from kd.parts.roles import Student, Teacher
from kd.parts.stream import stream
from kd.parts.teacher_cache import CachedTeacher
from kd.train.phases import Phases
from kd.train.step import TrainState
from kd.types import Batch, Tapped


def start(parts: Parts, *, seed: int, step: int = 0, waiting: Callable[[], None] = lambda: None) -> TrainState:
    """The state of a run before its step `step`, as this rank trains it.

    Args:
        parts: the recipe's objects; compiled here if the recipe sets `train.compile`.
        seed: of the stream of images.
        step: number of updates so far; a checkpoint's state is loaded afterwards.
        waiting: called while waiting for data; may raise to stop.
    """
    recipe = parts.recipe
    _compile(parts)
    optimizer = make_optimizer(recipe, parts.maker, parts.student)
    factor = parts.maker.build(recipe.schedule, steps=parts.steps)
    return TrainState(
        student=distributed.wrapped(parts.student),
        teacher=step_teacher(parts, seed),
        supervised=parts.supervised,
        terms=parts.terms,
        optimizer=optimizer,
        phases=Phases(recipe, parts.student, optimizer, factor, parts.steps),
        ema=parts.ema,
        batches=stream(parts, seed=seed, start=step, waiting=waiting),
        precision=parts.precision,
        steps=parts.steps,
        accumulate=recipe.train.accumulate,
        clip_norm=recipe.train.clip_norm or float("inf"),
        step=step,
    )


def step_teacher(parts: Parts, seed: int) -> Callable[[Batch], Tapped | None]:
    """The teacher that a step calls: the role, or its cache if the recipe has one; returns None without a teacher."""
    if parts.teaching is None:
        return lambda batch: None
    if parts.recipe.cache is None:
        return parts.teaching
    return CachedTeacher(parts.teaching, parts.recipe, images=len(parts.train), seed=seed, precision=parts.precision)


def _compile(parts: Parts) -> None:
    """Compile the networks that the recipe names, once, on a batch of the shape of training."""
    recipe = parts.recipe
    if recipe.train.compile == "off" or parts.student.taps.run is not parts.student.network:
        return
    roles: list[Student | Teacher] = [parts.student]
    if recipe.train.compile == "all" and parts.teaching is not None:
        roles.append(parts.teaching)
    images = recipe.train.batch_size // recipe.train.accumulate // distributed.world()
    batch = example_batch(parts, recipe.data.crop or recipe.data.size, images)
    compile_roles(roles, batch, parts.precision, "inductor")
