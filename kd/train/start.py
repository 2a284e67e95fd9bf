"""Parts -> TrainState: the optimizer, the stream of images, and the teacher that a step calls."""

import warnings
from collections.abc import Callable, Sequence
from itertools import islice

from kd import distributed
from kd.console import Say, silent
from kd.parts.assemble import Parts, example_batch
from kd.parts.compiling import compile_roles, is_compiled
from kd.parts.mixing import Draws
from kd.parts.optimizer import make_optimizer, stay_on_gpu
from kd.parts.roles import Student, Teacher, Teaching
from kd.parts.stream import stream
from kd.parts.teacher.cache import CachedTeacher
from kd.parts.teacher.int8 import Int8Teacher
from kd.train.capture.graph import CudaRecorder, StepGraph
from kd.train.phases import Phases
from kd.train.scalars import Scalars
from kd.train.step import TrainState
from kd.train.update import Update
from kd.types import Batch, Tapped


def start(
    parts: Parts,
    *,
    seed: int,
    step: int = 0,
    waiting: Callable[[], None] = lambda: None,
    say: Say = silent,
) -> TrainState:
    """The state of a run before its step `step`, as this rank trains it.

    Args:
        parts: the recipe's objects; compiled here if the recipe sets `train.compile`.
        seed: of the stream of images.
        step: number of updates so far; a checkpoint's state is loaded afterwards.
        waiting: called while waiting for data; may raise to stop.
        say: takes the lines for the user, on a teacher in INT8 and on decoded images that are held.
    """
    recipe = parts.recipe
    compile_for(parts, to_compile(parts))
    optimizer = make_optimizer(recipe, parts.maker, parts.student)
    factor = parts.maker.build(recipe.schedule, steps=parts.steps)
    device = parts.precision.device
    on_gpu = device.type == "cuda" and stay_on_gpu(optimizer)
    scalars = Scalars(device if on_gpu else None)
    micro_batches = recipe.accumulate * distributed.world()
    return TrainState(
        student=distributed.wrapped(parts.student),
        teacher=step_teacher(parts, seed, say),
        supervised=parts.supervised,
        terms=parts.terms,
        optimizer=optimizer,
        phases=Phases(recipe, parts.student, optimizer, factor, parts.steps, scalars),
        update=Update(optimizer, parts.ema, on_device=on_gpu, undo_buffers=recipe.train.on_nan == "skip"),
        ema=parts.ema,
        batches=stream(parts, seed=seed, start=step, waiting=waiting, say=say),
        precision=parts.precision,
        steps=parts.steps,
        accumulate=recipe.accumulate,
        clip_norm=recipe.train.clip_norm or float("inf"),
        step=step,
        draws=Draws(
            seed=seed,
            scales=recipe.train.scales,
            cutmix=recipe.data.unlabelled.cutmix if recipe.data.unlabelled else 0.0,
            unlabelled=recipe.unlabelled_size // micro_batches,
            first=distributed.rank() * recipe.accumulate,
        ),
    )


def step_graph(parts: Parts, run: TrainState) -> StepGraph:
    """How the steps of a run are launched: captured and replayed where `train.graph` and the machine allow it."""
    if parts.recipe.train.graph == "off" or parts.precision.device.type != "cuda":
        return StepGraph()
    optimizer = type(run.optimizer).__name__
    for prevented, reason in (
        (distributed.world() > 1, "steps of several processes are not captured yet"),
        (
            not run.update.on_device,
            f"{optimizer} keeps numbers on the processor, or may; SGD and AdamW do not",
        ),
    ):
        if prevented:
            warnings.warn(f"train.graph: {reason}; the steps run without a graph", stacklevel=2)
            return StepGraph()
    return StepGraph(CudaRecorder(parts.precision.device))


def step_teacher(parts: Parts, seed: int, say: Say = silent) -> Callable[[Batch], Tapped | None]:
    """The teacher that a step calls: the role, or its cache if the recipe has one; returns None without a teacher."""
    if parts.teaching is None:
        return lambda batch: None
    teacher: Teaching = (
        _int8_teacher(parts, parts.teaching, seed, say) if parts.recipe.teaches_in_int8 else parts.teaching
    )
    if parts.recipe.cache is None:
        return teacher
    return CachedTeacher(teacher, parts.recipe, images=len(parts.training), seed=seed, precision=parts.precision)


def _int8_teacher(parts: Parts, teacher: Teacher, seed: int, say: Say) -> Int8Teacher:
    """The teacher in INT8, calibrated on the first images that a run from the same seed sees."""
    by_recipe = parts.recipe.teacher is not None and parts.recipe.teacher.use is None
    return Int8Teacher(
        teacher,
        parts.recipe,
        lambda count: islice(stream(parts, seed=seed, steps=count, alone=True), count),
        parts.precision,
        trained=parts.teacher_run is not None if by_recipe else not parts.notes.drawn,
        say=say if distributed.rank() == 0 else silent,
    )


def to_compile(parts: Parts) -> list[Student | Teacher]:
    """The roles whose networks the recipe compiles; a run without a teacher in torch compiles none for it."""
    recipe, roles = parts.recipe, list[Student | Teacher]()
    if recipe.compiled in ("student", "all"):
        roles.append(parts.student)
    if recipe.compiled in ("teacher", "all") and parts.teaching is not None and not recipe.teaches_in_int8:
        roles.append(parts.teaching)
    return roles


def compile_for(parts: Parts, roles: Sequence[Student | Teacher]) -> None:
    """Compile those of the roles that are not yet compiled, on a batch of the shape of training."""
    recipe = parts.recipe
    left = [role for role in roles if not is_compiled(role)]
    if left:
        images = recipe.images_per_step // recipe.accumulate // distributed.world()
        batch = example_batch(parts, recipe.data.crop or recipe.data.size, images)
        compile_roles(left, batch, parts.precision, "inductor")
