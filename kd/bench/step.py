"""`kd bench RECIPE`: the distillation step compared with its unavoidable parts, in turn in one process."""

import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import torch

from kd.bench.clock import seconds
from kd.bench.loader import limit_line, time_loader
from kd.console import make_table, print_line, stdout
from kd.memory import peak_memory, restart_peak
from kd.parts.assemble import Parts
from kd.parts.checks.dry_run import open_parts
from kd.parts.roles import to_device
from kd.parts.stream import in_this_process, stream
from kd.recipe import Recipe
from kd.train.guard import Guard
from kd.train.loop import train
from kd.train.readback import Readback
from kd.train.reports import Reports
from kd.train.sinks.progress import make_progress
from kd.train.start import start, step_graph, step_teacher
from kd.train.step import TrainState, distill_step, set_numbers
from kd.train.watch import Watch
from kd.types import Batch

TEACHER, STUDENT, STEP = "teacher forward", "student step", "distillation step"
CACHED, LOOP = "with a full cache", "in the training loop"


def bench_command(recipe: Recipe, *, runs: Path, rounds: int = 10) -> None:
    """Print the seconds per step of teacher forward, student step and distillation step, and their ratios."""
    loading = recipe
    recipe = in_this_process(recipe)
    parts = open_parts(recipe, runs=runs, trained=False)
    restart_peak(parts.precision.device)
    with tempfile.TemporaryDirectory() as folder:
        medians = time_step(parts, rounds, Path(folder))
    images = recipe.images_per_step / recipe.accumulate
    rows = [(name, f"{value:.3f}", f"{images / value:.1f}") for name, value in medians.items()]
    title = f"{parts.precision}, {torch.get_num_threads()} threads, median of {rounds}"
    stdout().print(make_table(("part", "s/step", "images/s"), rows, title=title))
    step = STEP if STEP in medians else STUDENT
    for part, divisors in ((STEP, (TEACHER, STUDENT)), (CACHED, (STUDENT,)), (LOOP, (step,))):
        if part in medians:
            name = divisors[0] if len(divisors) == 1 else f"({' + '.join(divisors)})"
            print_line(f"{part} / {name} = {medians[part] / sum(medians[divisor] for divisor in divisors):.3f}")
    loaded = time_loader(replace(parts, recipe=loading))
    print_line(limit_line(loading, parts.precision.device, loaded, images / medians[LOOP]))
    peak = peak_memory(parts.precision.device)
    if peak is not None:
        print_line(f"peak memory {peak / 1e6:.0f} MB")


def time_step(parts: Parts, rounds: int, folder: Path) -> dict[str, float]:
    """Median seconds of each part over `rounds` rounds, after two rounds of warm-up.

    Every round runs every part once, so that a drift of the machine's speed affects all parts alike. Each step is a
    whole update (forward, backward, optimizer) on the same micro-batch, without reading data. The training loop adds
    its work between evaluations and checkpoints; a recipe's cache is filled in `folder`, not in its own folder.
    """
    recipe = parts.recipe
    uncached = replace(parts, recipe=recipe.changed(cache=None))
    run = start(uncached, seed=0, say=print_line)
    loaded = next(stream(parts, seed=0))  # with the sums that a cached teacher needs
    batch = to_device(loaded, run.precision)
    alone = replace(run, teacher=lambda _: None, terms={})
    run.student.train()
    set_numbers(run)
    jobs: dict[str, Callable[[], object]] = {STUDENT: lambda: _update(alone, batch)}
    if parts.teacher is not None:
        jobs = {TEACHER: lambda: _teach(run, batch), **jobs, STEP: lambda: _update(run, batch)}
    if recipe.cache is not None:
        cache = recipe.cache.model_copy(update={"folder": str(folder / "cache")})
        cached_parts = replace(parts, recipe=recipe.changed(cache=cache))
        cached = replace(run, teacher=step_teacher(cached_parts, seed=0))
        jobs[CACHED] = lambda: _update(cached, batch)
    untracked = recipe.changed(track=None)
    progress = make_progress(folder, untracked, role="student", seed=0, steps=sys.maxsize, start=0, quiet=True)
    loop = replace(run, steps=sys.maxsize, accumulate=1)  # no step is the last one, which would be reported
    watch = Watch(
        reports=Reports(progress, every=recipe.log.every, batch_size=recipe.images_per_step),
        guard=Guard(recipe.train.on_nan, recipe.train.nan_limit),
        readback=Readback(run.precision.device),
        graph=step_graph(parts, loop),
    )
    jobs[LOOP] = lambda: _train_on(loop, watch, loaded, parts.steps)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    with closing(progress):
        for _ in range(rounds + 2):
            for name, job in jobs.items():
                times[name].append(seconds(job, run.precision.device))
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def _train_on(loop: TrainState, watch: Watch, batch: Batch, steps: int) -> None:
    """One step of the training loop, without evaluation or checkpoint: the loop ends for lack of a second batch."""
    loop.step, loop.batches = loop.step % steps, iter([batch])  # a recipe may have fewer steps than there are rounds
    with suppress(StopIteration):
        train(loop, watch)


def _teach(run: TrainState, batch: Batch) -> None:
    with run.precision.autocast():
        run.teacher(batch)


def _update(run: TrainState, batch: Batch) -> None:
    distill_step(run, batch)["total"].backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.optimizer.zero_grad()
