"""Parts -> Run: the optimizer, the stream of batches and the teacher behind its cache, for this rank."""

from collections.abc import Callable, Iterator

from kd import distributed
from kd.components.build import build
from kd.data.loader import training_batches
from kd.data.split import Split
from kd.parts.assemble import Parts, example_batch
from kd.parts.compiling import compile_roles
from kd.parts.optimizer import make_optimizer
from kd.parts.roles import Student, Teacher
from kd.parts.teacher_cache import CachedTeacher
from kd.train.loop import give_up
from kd.train.phases import Phases
from kd.train.step import Run
from kd.types import Batch, Tapped


def make_run(
    parts: Parts,
    *,
    seed: int,
    start: int,
    due: Callable[..., None],
    not_finite: Callable[..., None] = give_up,
    waiting: Callable[[], None] = lambda: None,
) -> Run:
    """The run of assembled parts, from step `start` on, with its stream of batches; this rank's share of them."""
    recipe = parts.recipe
    _compile(parts)
    optimizer = make_optimizer(recipe, parts.student)
    phases = Phases(recipe, parts.student, optimizer, parts.steps)
    factor = build(recipe.schedule, folder=recipe.folder, trust=recipe.trust, steps=parts.steps)
    return Run(
        student=distributed.wrapped(parts.student),
        teacher=taught_by(parts, seed),
        supervised=parts.supervised,
        terms=parts.terms,
        optimizer=optimizer,
        factor=factor,
        batches=stream(parts, seed=seed, start=start, waiting=waiting),
        precision=parts.precision,
        steps=parts.steps,
        accumulate=recipe.train.accumulate,
        clip_norm=recipe.train.clip_norm or float("inf"),
        due=due,
        step=start,
        enter=phases.enter,
        average=_follows(parts),
        not_finite=not_finite,
    )


def taught_by(parts: Parts, seed: int) -> Callable[[Batch], Tapped | None]:
    """What answers in a step: the teacher, behind its cache where the recipe has one; None without a teacher."""
    if parts.teaching is None:
        return lambda batch: None
    if parts.recipe.cache is None:
        return parts.teaching
    return CachedTeacher(parts.teaching, parts.recipe, images=len(parts.train), seed=seed, precision=parts.precision)


def stream(
    parts: Parts,
    *,
    seed: int,
    start: int = 0,
    steps: int | None = None,
    alone: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[Batch]:
    """The run's micro-batches from step `start` on: this rank's, or, `alone`, those of all ranks."""
    recipe = parts.recipe
    parallel = distributed.world()
    augment = [build(use, folder=recipe.folder, trust=recipe.trust) for use in recipe.data.augment]
    split = Split(parts.train, recipe.data.size, crop=recipe.data.crop, augment=augment, seed=seed)
    return training_batches(
        split,
        steps=parts.steps if steps is None else steps,
        start=start,
        batch_size=recipe.train.batch_size,
        views=recipe.cache.views if recipe.cache else None,
        accumulate=recipe.train.accumulate * (parallel if alone else 1),
        seed=seed,
        rank=0 if alone else distributed.rank(),
        world=1 if alone else parallel,
        workers=recipe.data.workers,
        waiting=waiting,
    )


def _compile(parts: Parts) -> None:
    """Compile what the recipe asks for, on a batch of the training's shape."""
    recipe = parts.recipe
    if recipe.train.compile == "off":
        return
    roles: list[Student | Teacher] = [parts.student]
    if recipe.train.compile == "all" and parts.teaching is not None:
        roles.append(parts.teaching)
    images = recipe.train.batch_size // recipe.train.accumulate // distributed.world()
    compile_roles(
        roles, example_batch(parts, recipe.data.crop or recipe.data.size, images), parts.precision, "inductor"
    )


def _follows(parts: Parts) -> Callable[[], None]:
    ema, network = parts.ema, parts.student.network
    return (lambda: None) if ema is None else (lambda: ema.update_parameters(network))
