"""One run: from its newest checkpoint, or from its first step, to its result."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kd import distributed
from kd.console import Say
from kd.data.dataset import sample_name
from kd.machine import versions
from kd.metrics import scores
from kd.parts.assemble import Parts
from kd.parts.stream import stream
from kd.parts.trained import write_weights
from kd.recipe import baseline_of
from kd.runs import (
    Origin,
    Result,
    ResultInputs,
    SplitResult,
    TeacherResult,
    forget_result,
    id_of,
    origin_of,
    run_directory,
    write_result,
)
from kd.scoring import reestimate_batchnorm
from kd.train.between_steps.checkpoint import Checkpoints
from kd.train.between_steps.evaluation import Evaluations, score_network
from kd.train.between_steps.guard import Guard
from kd.train.between_steps.keeping import keep_predictions
from kd.train.between_steps.reports import Reports
from kd.train.between_steps.saving import load_best, load_student, restore, save
from kd.train.between_steps.watch import Watch
from kd.train.loop import train
from kd.train.provenance.description import Description
from kd.train.readback import Readback
from kd.train.signals import Stop
from kd.train.sinks.panels import pictures
from kd.train.sinks.progress import Progress, make_progress
from kd.train.start import start, step_graph
from kd.train.step import TrainState
from kd.types import parameter_count
from kd.units import as_steps, duration

SLOW_SAVE = 10.0  # seconds; torchrun kills 30 s after a signal, and the step must end first


def train_run(
    parts: Parts,
    run_dir: Path,
    *,
    seed: int,
    role: str,
    teacher: TeacherResult | None,
    description: Description | None,
    stop: Stop,
    say: Say,
    quiet: bool,
) -> Result:
    """Train a run to its end; write its weights and its result.

    Args:
        parts: the recipe's objects.
        run_dir: locked by this process.
        seed: of the images and of dropout.
        role: the role of the network that the result records.
        teacher: the teacher's scores, for the result.
        description: of the run, on rank 0, which has written it.
        stop: whether a signal has arrived.
        say: takes the lines for the user.
        quiet: no live line.

    Raises:
        StoppedError: a signal arrived; the same call resumes.
        DivergedError: the loss is not finite.
        NoCheckpointError: the checkpoints are damaged, or of another network.
        StorageError: a file cannot be written.
    """
    owner = f"{id_of(run_dir)}/seed{seed}"
    checkpoints = Checkpoints(run_dir / "checkpoints", owner)
    state, complaints = distributed.first(checkpoints.newest) or (None, [])
    for line in complaints:
        say(f"  {line}; using the previous one")
    step = int(state["step"]) if state else 0
    if state:
        say(f"  resumes at step {step} of {parts.steps}")
    if distributed.rank() == 0:
        progress = make_progress(
            run_dir, parts.recipe, role=role, seed=seed, steps=parts.steps, start=step, quiet=quiet
        )
    else:
        progress = Progress({})
    run = start(parts, seed=seed, step=step, waiting=stop.waiting, say=say)
    watch = _watch(parts, run, run_dir, checkpoints, progress, description, stop)
    # Dropout draws the same numbers with and without distillation, whatever was drawn to build the parts.
    torch.manual_seed(seed + 1 + (distributed.rank() << 32))
    for line in restore(run, watch, state) if state else []:
        say(f"  {line}")
    if description is not None:
        description.record.follow(lambda: run.step)
    try:
        _begin(run, watch)
        if watch.save_seconds > SLOW_SAVE:
            say(
                f"  a checkpoint takes {duration(watch.save_seconds)} to write, and torchrun kills processes 30 s "
                "after it asks them to stop: ask early (Slurm: --signal=B:USR1@120), "
                "or choose a faster disk with --runs DIR"
            )
        train(run, watch)
        watch.graph.release()  # scores take its memory
        if run.step < parts.steps:
            evaluations = f"{parts.recipe.train.patience} evaluations"
            say(f"  ended at step {run.step} of {parts.steps}: no better mIoU in {evaluations}")
        final = _final_score(parts, watch, run.step, seed)
        name = "final/miou" if final.against == "labels" else "final/agreement"
        progress.scalars(run.step, {name: scores(final.confusion).miou})
        progress.pictures(run.step, lambda: pictures(parts, final, "final"))
        _save_if_lost(run_dir, run, watch)
    finally:
        progress.close()
        if description is not None:
            description.record.close()
    if parts.averages_teach:
        teacher = _average_as_teacher(parts, stop)
    distributed.first(lambda: keep_predictions(parts, run_dir))
    inputs = distributed.first(lambda: None if description is None else description.finished(run.step))
    result = _result(parts, run_dir, seed, role, teacher, final, run.step, watch, inputs)
    distributed.first(lambda: write_weights(run_dir, parts.network, _origin(parts, result)))
    distributed.first(lambda: write_result(run_dir, result))
    _save_if_lost(run_dir, run, watch)  # every file since the last look has created the directory again
    if parts.recipe.train.checkpoints == "unfinished":  # a finished run is not resumed
        distributed.first(checkpoints.remove)
    return result


def _watch(
    parts: Parts,
    run: TrainState,
    run_dir: Path,
    checkpoints: Checkpoints,
    progress: Progress,
    description: Description | None,
    stop: Stop,
) -> Watch:
    """What happens between the steps, as the recipe sets it."""
    recipe = parts.recipe
    return Watch(
        reports=Reports(
            progress,
            every=recipe.log.every,
            parts=parts,
            gradients_every=recipe.log.gradients,
            batch_size=recipe.images_per_step,
        ),
        evaluations=Evaluations(
            parts,
            progress=progress,
            every=as_steps(recipe.train.evaluate_every, parts.steps),
            patience=recipe.train.patience,
            stop=stop,
        ),
        guard=Guard(
            recipe.train.on_nan, recipe.train.nan_limit, run_dir=run_dir, name=partial(sample_name, parts.training)
        ),
        readback=Readback(parts.precision.device),
        graph=step_graph(parts, run),
        stop=stop,
        description=description,
        checkpoints=checkpoints,
        save_every=as_steps(recipe.train.save_every, parts.steps),
        network=f"{recipe.student.use}, {len(parts.train.class_names)} classes",
    )


def _begin(run: TrainState, watch: Watch) -> None:
    """Before the first step of a session, write a first checkpoint or repeat the evaluation that a signal stopped."""
    if run.step == 0:
        save(run, watch, best=False, needed=False)
    elif watch.evaluations.pending:  # saved even if it is not the best: a kill must not lead to a second line of it
        save(run, watch, best=watch.evaluations.evaluate(run), needed=False)


def _final_score(parts: Parts, watch: Watch, step: int, seed: int) -> SplitResult:
    """The score of the weights that the recipe selects, after BatchNorm is re-estimated if the recipe sets it."""
    train, stop, latest = parts.recipe.train, watch.stop, watch.evaluations.latest
    if train.select == "best":
        assert watch.checkpoints is not None
        best_step = int(watch.evaluations.best["step"]) if watch.evaluations.best else step
        best = distributed.first(partial(load_best, watch.checkpoints, best_step))
        load_student(parts.student, best["student"])
        if parts.ema is not None:
            parts.ema.load_state_dict(best["ema"])
    if train.reestimate_batchnorm:
        batches = stream(parts, seed=seed, steps=train.reestimate_batchnorm, alone=True)
        for module, of_student in zip(parts.network.modules(), parts.student.network.modules(), strict=True):
            module.training = of_student.training  # an average is frozen where the student is
        reestimate_batchnorm(parts.network, _checked((batch.images for batch in batches), stop), parts.precision)
        if parts.network is not parts.student.network:
            parts.network.eval()  # as an average always is
    elif latest is not None and latest[0] == step and train.select == "last":
        return latest[1]
    return score_network(parts, parts.network, stop)


def _checked(images: Iterator[Tensor], stop: Stop) -> Iterator[Tensor]:
    for batch in images:
        stop.check()
        yield batch


def _save_if_lost(run_dir: Path, run: TrainState, watch: Watch) -> None:
    """Save a run whose directory was removed, without a result that would stand alone there.

    Raises:
        StorageError: it was removed.
    """
    description = watch.description
    if distributed.first(lambda: description is not None and description.is_lost):
        distributed.first(lambda: forget_result(run_dir))
        save(run, watch, best=False, needed=True)  # and report it


def _average_as_teacher(parts: Parts, stop: Stop) -> TeacherResult:
    """The score of the student's moving average, which was its teacher."""
    assert parts.teacher is not None
    use, network = parts.recipe.student.use, parts.teacher.network
    return TeacherResult(
        name=f"average of {use}",
        network=use,
        run=None,
        parameters=parameter_count(network),
        splits={"val": score_network(parts, network, stop)},
    )


def _origin(parts: Parts, result: Result) -> Origin:
    return origin_of(parts.recipe, result, in_channels=parts.train.in_channels, colors=parts.train.colors)


def _result(
    parts: Parts,
    run_dir: Path,
    seed: int,
    role: str,
    teacher: TeacherResult | None,
    final: SplitResult,
    steps: int,
    watch: Watch,
    inputs: ResultInputs | None,
) -> Result:
    recipe, seconds = parts.recipe, watch.seconds()
    return Result(
        id=id_of(run_dir),
        name=recipe.stem,
        seed=seed,
        role=role,
        network=recipe.student.use,
        teacher=teacher,
        baseline=run_directory(baseline_of(recipe), run_dir.parents[1], seed).parent.name if recipe.distill else None,
        select=recipe.train.select,
        splits={"val": final},
        parameters=parameter_count(parts.student.network),
        seconds=seconds,
        images_per_second=steps * recipe.images_per_step / max(seconds, 1e-9),
        peak_memory=watch.peak_memory(parts.precision.device),
        versions=versions(),
        remarks=parts.notes.remarks,
        inputs=inputs,
    )
