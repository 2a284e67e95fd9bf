"""One run: from its newest checkpoint, or its first step, to its result."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kd import distributed
from kd.console import Say
from kd.data.dataset import sample_name
from kd.machine import peak_memory, versions
from kd.metrics import scores
from kd.parts.assemble import Parts
from kd.parts.gradients import Watched
from kd.recipe import baseline_of
from kd.runs import Result, SplitResult, TeacherResult, run_directory, write_result
from kd.schedules import Patience
from kd.scoring import reestimate_batchnorm
from kd.train.bookkeeping import Bookkeeping, load_best
from kd.train.checkpoint import Checkpoints
from kd.train.evaluation import evaluation, score_network
from kd.train.guard import Guard
from kd.train.loop import train
from kd.train.panels import pictures
from kd.train.signals import Stop
from kd.train.sinks.progress import Progress, make_progress
from kd.train.start import make_run, stream
from kd.trained import write_weights
from kd.types import parameter_count
from kd.units import as_steps, duration

SLOW_SAVE = 10.0  # seconds; torchrun kills 30 s after it asks for a stop, and the step has to end first


def finish(
    parts: Parts,
    run: Path,
    *,
    seed: int,
    role: str,
    teacher: TeacherResult | None,
    stop: Stop,
    say: Say,
    quiet: bool,
) -> Result:
    """Train a run to its end; write its weights and its result.

    Args:
        parts: the recipe's objects.
        run: its directory, owned by this process.
        seed: of the images and of dropout.
        role: what the result says the network is for.
        teacher: the teacher's scores, for the result.
        stop: whether a signal has come.
        say: takes the lines for the user.
        quiet: no live line.

    Raises:
        StoppedError: a signal came; the same call goes on.
        DivergedError: the loss is not finite.
        NoCheckpointError: the checkpoints are damaged, or of another network.
        StorageError: something cannot be written.
    """
    checkpoints = Checkpoints(run / "checkpoints")
    state, complaints = distributed.first(checkpoints.newest) or (None, [])
    for line in complaints:
        say(f"  {line}; using the one before")
    start = int(state["step"]) if state else 0
    if state:
        say(f"  goes on from step {start} of {parts.steps}")
    if distributed.rank() == 0:
        progress = make_progress(run, parts.recipe, seed=seed, steps=parts.steps, start=start, quiet=quiet)
    else:
        progress = Progress({})
    book = _bookkeeping(parts, run, checkpoints, progress, stop)
    training = make_run(parts, seed=seed, start=start, due=book, not_finite=book.guard, waiting=stop.waiting)
    watched = Watched(parts)
    training.batches, book.gradients = watched.passing(training.batches), watched.figures
    # Dropout: the same with and without distillation, whatever was drawn to build the parts.
    torch.manual_seed(seed + 1 + (distributed.rank() << 32))
    for line in book.restore(training, state) if state else []:
        say(f"  {line}")
    try:
        book.begin(training)
        if book.save_seconds > SLOW_SAVE:
            say(
                f"  a checkpoint takes {duration(book.save_seconds)} to write, and torchrun kills 30 s after "
                "it asks for a stop: ask early (Slurm: --signal=B:USR1@120), or choose a faster disk with --runs DIR"
            )
        train(training)
        if training.step < parts.steps:
            evaluations = f"{parts.recipe.train.patience} evaluations"
            say(f"  ended at step {training.step} of {parts.steps}: {evaluations} brought no better mIoU")
        final = _final_score(parts, book, training.step, seed, stop)
        progress.scalars(training.step, {"final/miou": scores(final.confusion).miou})
        progress.pictures(training.step, lambda: pictures(parts, final, "final"))
    finally:
        progress.close()
    distributed.first(lambda: write_weights(run, parts.network))
    if parts.averages_teach:
        teacher = _average_as_teacher(parts, stop)
    result = _result(parts, run, seed, role, teacher, final, training.step, book.spent())
    distributed.first(lambda: write_result(run, result))
    return result


def _bookkeeping(parts: Parts, run: Path, checkpoints: Checkpoints, progress: Progress, stop: Stop) -> Bookkeeping:
    """What the recipe asks for between the steps."""
    recipe = parts.recipe
    book = Bookkeeping(
        checkpoints,
        progress,
        lambda: evaluation(parts, stop),
        report_every=recipe.log.every,
        evaluate_every=as_steps(recipe.train.evaluate_every, parts.steps) or parts.steps,
        save_every=as_steps(recipe.train.save_every, parts.steps) or parts.steps,
        batch_size=recipe.train.batch_size,
        stop=stop,
        network=f"{recipe.student.use}, {len(parts.train.class_names)} classes",
        gradients_every=recipe.log.gradients,
        pictures=lambda result: pictures(parts, result, "val"),
        guard=Guard(
            recipe.train.on_nan,
            recipe.train.nan_limit,
            run,
            partial(sample_name, parts.train),
            lambda run: book.go_back(run),
        ),
        patience=Patience(recipe.train.patience) if recipe.train.patience else None,
        ema=parts.ema,
    )
    return book


def _final_score(parts: Parts, book: Bookkeeping, step: int, seed: int, stop: Stop) -> SplitResult:
    """The score of the weights that the recipe selects, BatchNorm re-estimated first where it says so."""
    train = parts.recipe.train
    if train.select == "best":
        best = distributed.first(lambda: load_best(book.checkpoints))
        parts.student.load_state_dict(best["student"])
        if parts.ema is not None:
            parts.ema.load_state_dict(best["ema"])
    if train.reestimate_batchnorm:
        batches = stream(parts, seed=seed, steps=train.reestimate_batchnorm, alone=True)
        for module, same in zip(parts.network.modules(), parts.student.network.modules(), strict=True):
            module.training = same.training  # an average rests where the student does
        reestimate_batchnorm(parts.network, _checked((batch.images for batch in batches), stop), parts.precision)
    elif book.latest is not None and book.latest[0] == step and train.select == "last":
        return book.latest[1]
    return score_network(parts, parts.network, stop)


def _checked(images: Iterator[Tensor], stop: Stop) -> Iterator[Tensor]:
    for one in images:
        stop.check()
        yield one


def _average_as_teacher(parts: Parts, stop: Stop) -> TeacherResult:
    """The score of the student's own moving average, which taught it."""
    assert parts.teacher is not None
    use, network = parts.recipe.student.use, parts.teacher.network
    return TeacherResult(
        name=f"average of {use}",
        network=use,
        run=None,
        parameters=parameter_count(network),
        splits={"val": score_network(parts, network, stop)},
    )


def _result(
    parts: Parts,
    run: Path,
    seed: int,
    role: str,
    teacher: TeacherResult | None,
    final: SplitResult,
    steps: int,
    seconds: float,
) -> Result:
    recipe = parts.recipe
    return Result(
        id=recipe.id,
        name=recipe.stem,
        seed=seed,
        role=role,
        network=recipe.student.use,
        teacher=teacher,
        baseline=run_directory(baseline_of(recipe), run.parents[1], seed).parent.name if recipe.distill else None,
        select=recipe.train.select,
        splits={"val": final},
        parameters=parameter_count(parts.student.network),
        seconds=seconds,
        images_per_second=steps * recipe.train.batch_size / max(seconds, 1e-9),
        peak_memory=peak_memory(parts.precision.device),
        versions=versions(),
    )
