"""How long the steps and evaluations of a run take, measured on its own objects within a stated time."""

import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import nn

from kd import distributed
from kd.console import progress
from kd.data.dataset import FirstImages
from kd.errors import DivergedError
from kd.parts.assemble import Parts
from kd.parts.stream import stream
from kd.parts.teacher.cache import CachedTeacher
from kd.recipe import CacheConfig
from kd.train.between_steps.evaluation import score_share
from kd.train.between_steps.watch import Watch
from kd.train.loop import train
from kd.train.readback import Readback
from kd.train.start import step_graph, step_teacher
from kd.train.step import TrainState

MOST_STEPS = 31
WARM_UP = 1  # steps left out: they allocate memory, choose algorithms, start the workers, fill a cache

Tick = Callable[[], None]  # called after each step and each batch


class _TimeUpError(Exception):
    """The time for a measurement is over."""


def _silent() -> None:
    """Show nothing."""


@contextlib.contextmanager
def clock(title: str, seconds: float, *, quiet: bool) -> Iterator[Tick]:
    """Show how much of the time for a measurement has passed; it may end earlier."""
    if quiet:
        yield _silent
        return
    began, whole = time.monotonic(), max(round(seconds), 1)
    with progress(title, whole, "s") as advance:
        yield lambda: advance(min(int(time.monotonic() - began), whole))


def time_steps(run: TrainState, parts: Parts, seconds: float, tick: Tick = _silent) -> float:
    """Median seconds of a step on the real data, reading included; in a graph where the run will have one."""
    step_seconds: list[float] = []
    watch = Watch(readback=Readback(run.precision.device), graph=step_graph(parts, run))
    began, most = time.monotonic(), min(run.steps, MOST_STEPS)
    try:
        while run.step < most and not distributed.largest(time.monotonic() - began > seconds):
            before, run.steps = time.monotonic(), run.step + 1
            train(run, watch)
            step_seconds.append(time.monotonic() - before)
            tick()
            if len(step_seconds) == 1:
                began = time.monotonic()  # the first step may quantise the teacher, which takes its time once
    except DivergedError:  # the run itself does what `on_nan` sets
        run.optimizer.zero_grad()
    finally:
        close: Callable[[], None] | None = getattr(run.batches, "close", None)  # stops the workers
        if close is not None:
            close()
    return statistics.median(step_seconds[WARM_UP:] or step_seconds or [time.monotonic() - began])


def time_cached(
    parts: Parts, run: TrainState, cache: CacheConfig, seconds: float, tick: Tick = _silent
) -> tuple[float, int]:
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
        return time_steps(cached, one_batch, seconds, tick), teacher.record_bytes


def time_evaluation(parts: Parts, seconds: float, tick: Tick = _silent) -> float:
    """Seconds of an evaluation, for every network that it scores."""
    scored = parts.scored.values()
    return sum(_time_score(parts, network, teacher, seconds / len(scored), tick) for network, teacher in scored)


def _time_score(parts: Parts, network: nn.Module, teacher: nn.Module | None, seconds: float, tick: Tick) -> float:
    """Seconds of a score on the whole validation split, estimated from its first batches."""
    began = time.monotonic()
    batches = 0

    def interrupt() -> None:
        nonlocal batches
        batches += 1
        tick()
        if distributed.largest(time.monotonic() - began > seconds):
            raise _TimeUpError

    with contextlib.suppress(_TimeUpError):
        score_share(parts, network, teacher, interrupt=interrupt)
    spent, world = time.monotonic() - began, distributed.world()
    all_batches = math.ceil(math.ceil(len(parts.val) / world) / (parts.recipe.train.batch_size // world))
    return spent / max(batches, 1) * all_batches
