"""One recipe's run from start to finished directory: its teacher first, its seeds, its baseline twin."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from kd import console, distributed
from kd.console import Say
from kd.data.dataset import FirstImages
from kd.data.survey import summarize, survey
from kd.errors import LockedError, RecipeError
from kd.machine import slow_path
from kd.parts.assemble import Parts, assemble
from kd.parts.dry_run import meet
from kd.recipe import Recipe, baseline_of, first_seed, teacher_recipe, to_yaml
from kd.runs import is_finished, locked, read_result, run_directory
from kd.storage import sweep, write_atomic, write_json
from kd.train.environment import deterministic, environment, moved_on
from kd.train.evaluation import headline, score_teacher
from kd.train.finish import finish
from kd.train.signals import Stop, stopping
from kd.types import IGNORE
from kd.units import duration

POLL = 1.0  # seconds between two looks at a run that another process trains
LOOKS = 60  # looks between two lines that say so


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
            teacher = first_seed(its_teacher)
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
            parts = replace(parts, val=FirstImages(parts.val, self.smoke * recipe.train.batch_size))
        lines = [*parts.notes, *meet(parts)]  # before anything is written: a recipe that cannot run leaves no directory
        if self.smoke is None:
            lines += summarize(survey(parts.train), survey(parts.val), parts.train.class_names)
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
            result = finish(
                parts, run, seed=seed, role=role, teacher=teacher, stop=self.stop, say=self.say, quiet=self.quiet
            )
            self.say(f"{run}: {headline(result.splits['val'])} after {duration(result.seconds)}")
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
                        self.say(f"{str(error).partition(';')[0]}; waiting for it ({duration(looks * POLL)})")
                self.stop.check()
                time.sleep(POLL)
            yield


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


def _title(recipe: Recipe, seed: int) -> str:
    return f"{recipe.student.use}, {'distilled' if recipe.distill else 'from labels alone'}, seed {seed}"


def _move_aside(run: Path) -> Path:
    target = run.with_name(f"{run.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
    run.rename(target)
    return target
