"""The cost of a recipe, measured before its first step: time, memory, disk; and the epochs that a budget allows."""

import io
import math
import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kd import distributed
from kd.errors import RecipeError
from kd.memory import peak_memory, restart_peak
from kd.parts.assemble import Parts
from kd.parts.checks.dry_run import untouched
from kd.parts.stream import steps_to_fill
from kd.recipe import Recipe, baseline_of, first_seed, teachers
from kd.runs import is_finished, run_directory
from kd.train.auto.measuring import clock, time_cached, time_evaluation, time_steps
from kd.train.between_steps.checkpoint import Checkpoints
from kd.train.between_steps.saving import state_of
from kd.train.between_steps.watch import Watch
from kd.train.session import Session
from kd.train.start import start
from kd.units import as_steps, duration

SECONDS = 20.0  # for all measurements together; a step that has started is completed
LONGEST = 10**6  # epochs


@dataclass(frozen=True)
class Job:
    """The unfinished runs of one recipe, with its measurements."""

    recipe: Recipe
    role: str
    runs: int
    steps: int  # of one run
    left: int  # remaining steps of all runs together
    step: float  # seconds
    evaluation: float  # seconds, for all scored networks
    evaluations: int  # of one run
    memory: int | None  # bytes at the peak
    checkpoint: int  # bytes
    weights: int  # bytes of the finished network
    images: int  # in the training split
    cached: float | None = None  # seconds of a step that reads the teacher from its cache; None: no cache
    cached_left: int = 0  # remaining steps that read it from there
    cache: int = 0  # bytes of one run's cache
    unlabelled: int = 0  # images without labels

    @property
    def filling(self) -> int:
        """Steps after which every view of every image is in the cache."""
        return steps_to_fill(self.recipe, self.images, self.unlabelled)

    @property
    def every(self) -> int:
        """Steps between evaluations if the recipe gives steps; 0 if it gives a share, which fixes their number."""
        amount = self.recipe.train.evaluate_every
        return amount if isinstance(amount, int) else 0

    def seconds_of(self, epochs: float) -> float:
        """Seconds of one run of this many epochs that starts with an empty cache."""
        steps = epochs * self.images / self.recipe.train.batch_size
        cached = 0.0 if self.cached is None else max(steps - self.filling, 0)
        evaluations = steps / self.every if self.every else self.evaluations
        return self._seconds_of_steps(steps, cached) + evaluations * self.evaluation

    def seconds(self, *, cached: bool = True) -> float:
        """Seconds of all remaining steps and evaluations; not `cached`: without the cache."""
        share = self.left / max(self.runs * self.steps, 1)
        steps = self._seconds_of_steps(self.left, self.cached_left if cached and self.cached is not None else 0)
        return steps + share * self.runs * self.evaluations * self.evaluation

    @property
    def kept(self) -> int:
        """Bytes of checkpoints and weights that stay when a run has finished."""
        return self.weights + (3 * self.checkpoint if self.recipe.train.checkpoints == "all" else 0)

    @property
    def most(self) -> int:
        """Bytes of checkpoints and weights while a run trains: the newest two, the best, and one being written."""
        return max(4 * self.checkpoint, self.kept + self.checkpoint)

    def _seconds_of_steps(self, steps: float, cached: float) -> float:
        """Seconds of steps of which `cached` read the teacher from its cache."""
        return (steps - cached) * self.step + cached * (self.cached or 0.0)


def plan(recipe: Recipe, session: Session, *, baseline: bool = False, fresh: bool = False) -> list[Job]:
    """Measure what `kd run` would train: the teacher, the student's seeds, its baseline's; finished runs are left out.

    It leaves no file behind, and the session keeps the measured objects, unchanged. An untrained teacher is measured
    with its initial weights.

    Raises:
        RecipeError: the parts do not fit.
        DataError: the data cannot be read.
    """
    trainings = [("teacher", first_seed(teacher), teacher.train.seeds[:1]) for teacher in reversed(teachers(recipe))]
    trainings.append(("student" if recipe.distill else "baseline", recipe, recipe.train.seeds))
    if baseline and recipe.distill:
        trainings.append(("baseline", baseline_of(recipe), recipe.train.seeds))
    remaining = []
    for role, trained, seeds in trainings:
        run_dirs = {seed: run_directory(trained, session.runs, seed) for seed in seeds}
        starts_over = fresh and role != "teacher"
        unfinished = {
            seed: run_dir / "fresh" if starts_over else run_dir
            for seed, run_dir in run_dirs.items()
            if starts_over or not is_finished(run_dir)
        }
        if distributed.first(lambda run_dirs=unfinished: bool(run_dirs)):  # type: ignore[misc]
            remaining.append((role, trained, unfinished))
    share = SECONDS / max(len(remaining), 1)
    return [
        _measure(role, session.prepared.parts(trained, next(iter(run_dirs))), run_dirs, share, quiet=session.quiet)
        for role, trained, run_dirs in remaining
    ]


def step_time(recipe: Recipe, session: Session) -> tuple[float, int]:
    """Seconds of a step, the passes of the teacher and the terms included, without a cache; and the steps of a run.

    Raises:
        RecipeError: the parts do not fit.
        DataError: the data cannot be read.
    """
    parts = session.prepared.parts(recipe, recipe.train.seeds[0])
    with untouched(parts):
        uncached = replace(parts, recipe=parts.recipe.changed(cache=None))
        return time_steps(start(uncached, seed=0), uncached, SECONDS / 2), parts.steps


def lines(jobs: list[Job], *, now: float | None = None) -> list[str]:
    """The plan as text: a line for each recipe, then the sum with its end."""
    if not jobs:
        return ["plan: everything is finished"]
    text = []
    for job in jobs:
        epochs = job.steps * job.recipe.train.batch_size / job.images
        in_epoch = job.images / job.recipe.train.batch_size
        cached = f" ({job.cached * in_epoch:.3g} s from the cache)" if job.cached is not None else ""
        done = 1 - job.left / max(job.runs * job.steps, 1)
        text.append(
            f"plan: {job.role} {job.recipe.stem}: {job.runs} run{'s' if job.runs > 1 else ''} × {epochs:.3g} epochs × "
            f"{job.step * in_epoch:.3g} s{cached} + {job.evaluations} evaluations × {job.evaluation:.3g} s = "
            + duration(job.seconds())
            + (f" ({100 * done:.0f} % done)" if done > 0 else "")
        )
    total = sum(job.seconds() for job in jobs)
    end = time.strftime("%Y-%m-%d %H:%M", time.localtime((time.time() if now is None else now) + total))
    disk = sum(job.runs * job.kept for job in jobs) + max(job.most - job.kept for job in jobs)
    cache = sum(job.runs * job.cache for job in jobs)
    peaks = [job.memory for job in jobs if job.memory is not None]
    memory = f"peak memory {max(peaks) / 1e6:.0f} MB; " if peaks else ""
    without_cache, for_cache = "", ""
    if any(job.cached is not None for job in jobs):
        without_cache = f" ({duration(sum(job.seconds(cached=False) for job in jobs))} without the cache)"
        for_cache = f" and {cache / 1e6:.1f} MB for the cache"
    text.append(
        f"plan: {duration(total)}{without_cache}, until about {end}; {memory}"
        f"checkpoints and weights at most {disk / 1e6:.1f} MB on disk{for_cache}"
    )
    return text


def epochs_within(jobs: list[Job], budget: float, where: str) -> int:
    """The epochs of the student and of its baseline, equal, with which all jobs end within `budget` seconds.

    Args:
        jobs: a plan; its teachers keep the lengths of their own recipes.
        budget: seconds.
        where: the beginning of the message for a budget that is too short.

    Raises:
        RecipeError: the budget is too short for one epoch.
    """
    teaching = sum(job.seconds() for job in jobs if job.role == "teacher")
    students = [job for job in jobs if job.role != "teacher"]
    fixed = sum(job.runs * job.evaluations * job.evaluation for job in students if not job.every)

    def total(epochs: int) -> float:
        return teaching + sum(job.runs * job.seconds_of(epochs) for job in students)

    epochs = bisect_right(range(1, LONGEST), budget, key=total) if students else 0
    if students and epochs < 1:
        epoch = total(1) - teaching - fixed
        raise RecipeError(
            f"{where}: not enough for one epoch: {duration(epoch)} an epoch, {duration(fixed)} for evaluations, "
            f"{duration(teaching)} for teachers; give more time or fewer seeds, or train the teacher first"
        )
    return epochs


def _measure(role: str, parts: Parts, unfinished: Mapping[int, Path], seconds: float, *, quiet: bool) -> Job:
    """Time the objects of one run, for all unfinished runs of its recipe: seed -> run directory."""
    recipe, cache = parts.recipe, parts.recipe.cache
    restart_peak(parts.precision.device)
    with untouched(parts), clock(f"measures {role} {recipe.stem}", seconds, quiet=quiet) as tick:
        uncached = replace(parts, recipe=recipe.changed(cache=None))  # measuring must not fill the cache
        run = start(uncached, seed=0)
        step = time_steps(run, uncached, seconds / 2, tick)
        evaluation = time_evaluation(parts, seconds / 4, tick)
        cached, record = None, 0
        if cache is not None and parts.teacher is not None:
            cached, record = time_cached(parts, run, cache, seconds / 4, tick)
        buffer = io.BytesIO()
        torch.save(state_of(run, Watch()), buffer)
    every = as_steps(recipe.train.evaluate_every, parts.steps) or parts.steps
    reached = [min(Checkpoints(run_dir / "checkpoints").reached(), parts.steps) for run_dir in unfinished.values()]
    unlabelled = len(parts.training) - len(parts.train)
    filled = steps_to_fill(recipe, len(parts.train), unlabelled)
    measured = Job(
        recipe=recipe,
        role=role,
        runs=len(unfinished),
        steps=parts.steps,
        left=sum(parts.steps - step for step in reached),
        step=step,
        evaluation=evaluation,
        evaluations=math.ceil(parts.steps / every),
        memory=peak_memory(parts.precision.device),
        checkpoint=buffer.getbuffer().nbytes,
        weights=sum(value.nbytes for value in parts.network.state_dict().values()),
        images=len(parts.train),
        cached=cached,
        cached_left=0 if cached is None else sum(parts.steps - max(step, min(filled, parts.steps)) for step in reached),
        cache=record * len(parts.training) * (cache.views if cache else 0),
        unlabelled=unlabelled,
    )
    return distributed.first(lambda: measured)


__all__ = ["Job", "epochs_within", "lines", "plan", "step_time"]
