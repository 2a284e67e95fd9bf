"""One recipe's run from start to finished directory: its teacher first, its seeds, its baseline twin."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd import console
from kd.data.dataset import Few, survey, warnings
from kd.engine import distributed
from kd.engine.assemble import Parts, assemble
from kd.engine.bookkeeping import Bookkeeping, load_best
from kd.engine.calibrate import Watched
from kd.engine.check import meet
from kd.engine.checkpoint import Checkpoints
from kd.engine.environment import deterministic, environment, moved_on
from kd.engine.guard import Guard
from kd.engine.pictures import pictures
from kd.engine.progress import Progress, make_progress
from kd.engine.schedule import Patience
from kd.engine.scoring import evaluation, headline, score_network, score_teacher
from kd.engine.start import make_run, stream
from kd.engine.stop import Stop, stopping
from kd.engine.train import train
from kd.evaluate import reestimate_batchnorm
from kd.metrics import scores
from kd.precision import slow_path
from kd.recipe import Recipe, RecipeError, as_steps, baseline_of, teacher_recipe, to_yaml
from kd.runs import (
    LockedError,
    Result,
    SplitResult,
    TeacherResult,
    is_finished,
    locked,
    parameter_count,
    peak_memory,
    read_result,
    run_directory,
    versions,
    write_result,
    write_weights,
)
from kd.storage import sweep, write_atomic, write_json
from kd.types import IGNORE

Say = Callable[[str], None]

POLL = 1.0  # seconds between two looks at a run that another process trains
LOOKS = 60  # looks between two lines that say so
SLOW_SAVE = 10.0  # seconds; torchrun kills 30 s after it asks for a stop, and the step has to end first


def run_recipe(
    recipe: Recipe,
    *,
    runs: Path,
    fresh: bool = False,
    baseline: bool = False,
    role: str | None = None,
    wait: bool = True,
    smoke: int | None = None,
    say: Say = console.say,
    quiet: bool = False,
) -> list[Path]:
    """Train what a recipe asks for, or finish what an earlier call began; one of several processes under torchrun.

    Args:
        recipe: checked in shape and calls.
        runs: where run directories are.
        fresh: move this recipe's own old directories aside first; its teacher's stay.
        baseline: train the twin without distillation too.
        role: what the result says the network is for; by default "student" with distillation, else "baseline".
        wait: whether to wait while another process trains the teacher or the twin that this recipe needs too.
        smoke: batches to score, of a run that is only tried out: its teacher is taken as it is built.
        say: takes the lines for the user.
        quiet: no live line.

    Returns:
        The run directories of the recipe, one a seed; then the twin's.

    Raises:
        LockedError: another process trains this recipe; or what it needs, and `wait` is False.
        StoppedError: a signal came; the same call goes on.
        PeerLostError: another of the processes under torchrun died.
    """
    with distributed.joined(recipe.device), stopping() as stop:
        speaks = distributed.rank() == 0
        session = _Session(runs, stop, say if speaks else _silent, quiet or not speaks, smoke)
        try:
            with deterministic(recipe):
                return session.recipe(recipe, fresh=fresh, baseline=baseline, role=role, wait=wait, needed=False)
        except torch.OutOfMemoryError as error:
            raise RecipeError([_out_of_memory(recipe, error)]) from None


@dataclass(frozen=True)
class _Session:
    """What the runs of one call share."""

    runs: Path
    stop: Stop
    say: Say
    quiet: bool
    smoke: int | None

    def recipe(
        self, recipe: Recipe, *, fresh: bool, baseline: bool, role: str | None, wait: bool, needed: bool
    ) -> list[Path]:
        """The runs of a recipe; `needed` is a teacher's or a twin's, which another process may be training too."""
        its_teacher = teacher_recipe(recipe)
        if its_teacher is not None and self.smoke is None:  # its first seed teaches all of ours
            teacher = _first_seed(its_teacher)
            directories = [run_directory(recipe, self.runs, seed) for seed in recipe.train.seeds]
            its_run = run_directory(teacher, self.runs, teacher.train.seeds[0])
            if not distributed.first(lambda: is_finished(its_run) or all(map(is_finished, directories))):
                # a mistake in this recipe must not wait until its teacher has trained for hours
                meet(assemble(recipe, runs=self.runs, seed=recipe.train.seeds[0], trained=False))
            self.recipe(teacher, fresh=False, baseline=False, role="teacher", wait=wait, needed=True)
        done = [self.seed(recipe, seed, fresh, role, wait=wait and needed) for seed in recipe.train.seeds]
        if baseline and recipe.distill:
            twin = baseline_of(recipe)
            done += self.recipe(twin, fresh=fresh, baseline=False, role=None, wait=wait, needed=True)
        return done

    def seed(self, recipe: Recipe, seed: int, fresh: bool, role: str | None, *, wait: bool) -> Path:
        """One run."""
        self.stop.check()
        run = distributed.first(lambda: run_directory(recipe, self.runs, seed))
        if fresh and distributed.first(run.exists):
            self.say(f"{run}: moved to {distributed.first(lambda: _move_aside(run))}")
        if self.finished(run):
            return run
        if not wait and distributed.first(run.exists):
            with self.owned(run, wait):
                pass  # who comes second need not wait for the checks to hear it
        parts = assemble(recipe, runs=self.runs, seed=seed, trained=self.smoke is None)
        if self.smoke is not None:
            parts = replace(parts, val=Few(parts.val, self.smoke * recipe.train.batch_size))
        lines = [*parts.notes, *meet(parts)]  # before anything is written: a recipe that cannot run leaves no directory
        if self.smoke is None:
            lines += warnings(survey(parts.train), survey(parts.val), parts.train.class_names)
        slow = slow_path(parts.precision, recipe.train.precision)
        with self.owned(run, wait):
            if wait and self.finished(run):
                return run
            processes = f", {distributed.world()} processes" if distributed.world() > 1 else ""
            self.say(f"{run}: {_title(recipe, seed)} on {parts.precision}{processes}")
            for line in [*lines, *([slow] if slow else [])]:
                self.say(f"  {line}")
            for line in distributed.first(lambda: moved_on(run)):
                self.say(f"  {line}")
            distributed.first(lambda: _describe(parts, run))
            teacher = score_teacher(parts, run, self.stop, self.say)
            role = role or ("student" if recipe.distill else "baseline")
            result = _train(parts, run, seed, role, self.stop, teacher, self.say, self.quiet)
            self.say(f"{run}: {headline(result.splits['val'])} after {console.duration(result.seconds)}")
        return run

    def finished(self, run: Path) -> bool:
        """Whether a run needs nothing more; says so."""
        if not distributed.first(lambda: is_finished(run)):
            return False
        self.say(f"{run}: finished ({headline(distributed.first(lambda: read_result(run)).splits['val'])})")
        return True

    @contextmanager
    def owned(self, run: Path, wait: bool) -> Iterator[None]:
        """Keep other processes out of the run, waiting until they have left it if `wait`."""
        with ExitStack() as lock:
            for looks in count():
                try:
                    distributed.first(lambda: lock.enter_context(locked(run)))
                    break
                except LockedError as error:
                    if not wait:
                        raise
                    if looks % LOOKS == 0:
                        self.say(f"{str(error).partition(';')[0]}; waiting for it ({console.duration(looks * POLL)})")
                self.stop.check()
                time.sleep(POLL)
            yield


def _train(
    parts: Parts, run: Path, seed: int, role: str, stop: Stop, teacher: TeacherResult | None, say: Say, quiet: bool
) -> Result:
    recipe = parts.recipe
    checkpoints = Checkpoints(run / "checkpoints")
    found = distributed.first(checkpoints.newest)
    state, complaints = found if found else (None, [])
    for line in complaints:
        say(f"  {line}; using the one before")
    start = int(state["step"]) if state else 0
    if state:
        say(f"  goes on from step {start} of {parts.steps}")
    if distributed.rank() == 0:
        progress = make_progress(run, recipe, seed=seed, steps=parts.steps, start=start, quiet=quiet)
    else:
        progress = Progress({})
    network = f"{recipe.student.use}, {len(parts.train.class_names)} classes"
    book = Bookkeeping(
        checkpoints,
        progress,
        lambda: evaluation(parts, stop),
        report_every=recipe.log.every,
        evaluate_every=as_steps(recipe.train.evaluate_every, parts.steps) or parts.steps,
        save_every=as_steps(recipe.train.save_every, parts.steps) or parts.steps,
        batch_size=recipe.train.batch_size,
        stop=stop,
        network=network,
        gradients_every=recipe.log.gradients,
        pictures=lambda result: pictures(parts, result, "val"),
        guard=Guard(recipe.train.on_nan, recipe.train.nan_limit, run, _namer(parts), lambda run: book.go_back(run)),
        patience=Patience(recipe.train.patience) if recipe.train.patience else None,
        ema=parts.ema,
    )
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
                f"  a checkpoint takes {console.duration(book.save_seconds)} to write, and torchrun kills 30 s after "
                "it asks for a stop: ask early (Slurm: --signal=B:USR1@120), or choose a faster disk with --runs DIR"
            )
        train(training)
        if training.step < parts.steps:
            evaluations = f"{recipe.train.patience} evaluations"
            say(f"  ended at step {training.step} of {parts.steps}: {evaluations} brought no better mIoU")
        if recipe.train.select == "best":
            best = distributed.first(lambda: load_best(checkpoints))
            parts.student.load_state_dict(best["student"])
            if parts.ema is not None:
                parts.ema.load_state_dict(best["ema"])
        final = _finish(parts, book, training.step, seed, stop)
        progress.scalars(training.step, {"final/miou": scores(torch.tensor(final.confusion)).miou})
        progress.pictures(training.step, lambda: pictures(parts, final, "final"))
    finally:
        progress.close()
    distributed.first(lambda: write_weights(run, parts.network))
    if parts.averages_teach and parts.teacher is not None:
        teacher = TeacherResult(
            name=f"average of {recipe.student.use}",
            network=recipe.student.use,
            run=None,
            parameters=parameter_count(parts.teacher.network),
            splits={"val": score_network(parts, parts.teacher.network, stop)},
        )
    seconds = book.spent()
    result = Result(
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
        images_per_second=training.step * recipe.train.batch_size / max(seconds, 1e-9),
        peak_memory=peak_memory(parts.precision.device),
        versions=versions(),
    )
    distributed.first(lambda: write_result(run, result))
    return result


def _finish(parts: Parts, book: Bookkeeping, step: int, seed: int, stop: Stop) -> SplitResult:
    """The score that goes into the result, BatchNorm re-estimated first where the recipe says so."""
    batches = parts.recipe.train.reestimate_batchnorm
    if batches:
        images: Iterator[Tensor] = _checked(
            (batch.images for batch in stream(parts, seed=seed, steps=batches, alone=True)), stop
        )
        for module, same in zip(parts.network.modules(), parts.student.network.modules(), strict=True):
            module.training = same.training  # an average rests where the student does
        reestimate_batchnorm(parts.network, images, parts.precision)
    elif book.latest is not None and book.latest[0] == step and parts.recipe.train.select == "last":
        return book.latest[1]
    return score_network(parts, parts.network, stop)


def _checked(images: Iterator[Tensor], stop: Stop) -> Iterator[Tensor]:
    for one in images:
        stop.check()
        yield one


def _namer(parts: Parts) -> Callable[[int], str]:
    """What a message calls the training image of an index."""
    names = getattr(parts.train, "names", None)
    return lambda index: str(names[index]) if names else f"sample {index}"


def _out_of_memory(recipe: Recipe, error: Exception) -> str:
    size, accumulate, processes = recipe.train.batch_size, recipe.train.accumulate, distributed.world()
    share = size // processes
    larger = next((parts for parts in range(accumulate + 1, share + 1) if share % parts == 0), None)
    fix = f"set train.accumulate={larger}" if larger else "use a smaller data.size or data.crop"
    return (
        f"{recipe.at('train', 'batch_size')}: out of GPU memory with train.batch_size {size} in micro-batches of "
        f"{share // accumulate} (train.accumulate {accumulate}, {processes} process{'es' if processes > 1 else ''}); "
        f"{fix} ({' '.join(str(error).split())[:120]})"
    )


def _describe(parts: Parts, run: Path) -> None:
    """Sweep up after a killed process, and write what is trained, and on what."""
    sweep(run)
    write_atomic(run / "recipe.yaml", to_yaml(parts.recipe).encode())
    write_json(run / "environment.json", _environment(parts))


def _silent(line: str) -> None:
    """Ranks other than 0 say nothing."""


def _environment(parts: Parts) -> dict[str, Any]:
    return environment(parts.precision) | {
        "in_channels": parts.train.in_channels,
        "classes": list(parts.train.class_names),
        "ignore": IGNORE,
    }


def _first_seed(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"seeds": recipe.train.seeds[:1]})})


def _title(recipe: Recipe, seed: int) -> str:
    return f"{recipe.student.use}, {'distilled' if recipe.distill else 'from labels alone'}, seed {seed}"


def _move_aside(run: Path) -> Path:
    target = run.with_name(f"{run.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
    run.rename(target)
    return target
