"""The cost of a recipe, measured before its first step: time, memory, disk; and the epochs that a budget allows."""

import contextlib
import io
import math
import statistics
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from kd import distributed
from kd.data.dataset import FirstImages
from kd.errors import DivergedError, RecipeError
from kd.memory import peak_memory, restart_peak
from kd.parts.assemble import Parts
from kd.parts.checks.dry_run import untouched
from kd.parts.stream import steps_to_fill, stream
from kd.parts.teacher.cache import CachedTeacher
from kd.recipe import CacheConfig, Recipe, baseline_of, first_seed, teachers
from kd.runs import is_finished, run_directory
from kd.train.checkpoint import Checkpoints
from kd.train.evaluation import score_share
from kd.train.loop import train
from kd.train.readback import Readback
from kd.train.saving import state_of
from kd.train.session import Session
from kd.train.start import start, step_graph, step_teacher
from kd.train.step import TrainState
from kd.train.watch import Watch
from kd.units import as_steps, duration

SECONDS = 20.0  # for all measurements together; a step that has started is completed
MOST_STEPS = 31
WARM_UP = 1  # steps left out: they allocate memory, choose algorithms, start the workers, fill a cache
LONGEST = 10**6  # epochs


class _TimeUpError(Exception):
    """The time for a measurement is over."""


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
        _measure(role, session.prepare(trained, next(iter(run_dirs))), run_dirs, share)
        for role, trained, run_dirs in remaining
    ]


def step_time(recipe: Recipe, session: Session) -> tuple[float, int]:
    """Seconds of a step, the passes of the teacher and the terms included, without a cache; and the steps of a run.

    Raises:
        RecipeError: the parts do not fit.
        DataError: the data cannot be read.
    """
    parts = session.prepare(recipe, recipe.train.seeds[0])
    with untouched(parts):
        uncached = replace(parts, recipe=recipe.changed(cache=None))
        return _time_steps(start(uncached, seed=0), uncached, SECONDS / 2), parts.steps


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


def _measure(role: str, parts: Parts, unfinished: Mapping[int, Path], seconds: float) -> Job:
    """Time the objects of one run, for all unfinished runs of its recipe: seed -> run directory."""
    recipe, cache = parts.recipe, parts.recipe.cache
    restart_peak(parts.precision.device)
    with untouched(parts):
        uncached = replace(parts, recipe=recipe.changed(cache=None))  # measuring must not fill the cache
        run = start(uncached, seed=0)
        step = _time_steps(run, uncached, seconds / 2)
        evaluation = _time_evaluation(parts, seconds / 4)
        cached, record = None, 0
        if cache is not None and parts.teacher is not None:
            cached, record = _time_cached(parts, run, cache, seconds / 4)
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
        cached_left=sum(parts.steps - max(step, min(filled, parts.steps)) for step in reached) if cached else 0,
        cache=record * len(parts.training) * (cache.views if cache else 0),
        unlabelled=unlabelled,
    )
    return distributed.first(lambda: measured)


def _time_steps(run: TrainState, parts: Parts, seconds: float) -> float:
    """Median seconds of a step on the real data, reading included; in a graph where the run will have one."""
    step_seconds: list[float] = []
    watch = Watch(readback=Readback(run.precision.device), graph=step_graph(parts, run))
    began, most = time.monotonic(), min(run.steps, MOST_STEPS)
    try:
        while run.step < most and not distributed.largest(time.monotonic() - began > seconds):
            before, run.steps = time.monotonic(), run.step + 1
            train(run, watch)
            step_seconds.append(time.monotonic() - before)
            if len(step_seconds) == 1:
                began = time.monotonic()  # the first step may quantise the teacher, which takes its time once
    except DivergedError:  # the run itself does what `on_nan` sets
        run.optimizer.zero_grad()
    finally:
        close: Callable[[], None] | None = getattr(run.batches, "close", None)  # stops the workers
        if close is not None:
            close()
    return statistics.median(step_seconds[WARM_UP:] or step_seconds or [time.monotonic() - began])


def _time_cached(parts: Parts, run: TrainState, cache: CacheConfig, seconds: float) -> tuple[float, int]:
    """Seconds of a step that reads the teacher from its cache, and the cache's bytes per view of an image.

    All steps see the same batch of images; the first one fills a temporary cache.
    """
    with tempfile.TemporaryDirectory(prefix="kd-plan-") as folder:
        recipe = parts.recipe.changed(cache=cache.model_copy(update={"folder": folder, "views": 1}))
        first = FirstImages(parts.train, recipe.train.batch_size)
        others = parts.unlabelled and FirstImages(parts.unlabelled, recipe.unlabelled_size)
        one_batch = replace(parts, recipe=recipe, train=first, unlabelled=others)
        teacher = step_teacher(one_batch, seed=0)
        assert isinstance(teacher, CachedTeacher)
        cached = replace(run, step=0, steps=parts.steps, teacher=teacher, batches=stream(one_batch, seed=0))
        return _time_steps(cached, one_batch, seconds), teacher.record_bytes


def _time_evaluation(parts: Parts, seconds: float) -> float:
    """Seconds of an evaluation, for every network that it scores."""
    scored = parts.scored.values()
    return sum(_time_score(parts, network, teacher, seconds / len(scored)) for network, teacher in scored)


def _time_score(parts: Parts, network: nn.Module, teacher: nn.Module | None, seconds: float) -> float:
    """Seconds of a score on the whole validation split, estimated from its first batches."""
    began = time.monotonic()
    batches = 0

    def interrupt() -> None:
        nonlocal batches
        batches += 1
        if distributed.largest(time.monotonic() - began > seconds):
            raise _TimeUpError

    with contextlib.suppress(_TimeUpError):
        score_share(parts, network, teacher, interrupt=interrupt)
    spent, world = time.monotonic() - began, distributed.world()
    all_batches = math.ceil(math.ceil(len(parts.val) / world) / (parts.recipe.train.batch_size // world))
    return spent / max(batches, 1) * all_batches


__all__ = ["Job", "epochs_within", "lines", "plan", "step_time"]
