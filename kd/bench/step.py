"""`kd bench RECIPE`: the distillation step compared with its unavoidable parts, in turn in one process."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from kd.bench.clock import seconds
from kd.bench.miou import miou_line
from kd.bench.rounds import Job, Times, medians_of, ratio_of, time_in_turn
from kd.console import make_table, print_line, stdout
from kd.data.speed import images_per_second, workers_text
from kd.errors import RecipeError
from kd.machine import loader_workers
from kd.memory import peak_memory, restart_peak
from kd.parts.assemble import Parts
from kd.parts.checks.dry_run import open_parts
from kd.parts.roles import to_device
from kd.parts.stream import in_this_process, stream
from kd.parts.teacher.int8 import check_int8
from kd.recipe import CacheConfig, Recipe
from kd.train.auto.settling import settled_outside_run
from kd.train.between_steps.guard import Guard
from kd.train.between_steps.reports import Reports
from kd.train.between_steps.watch import Watch
from kd.train.capture.graph import WARM_UP, StepGraph
from kd.train.loop import train
from kd.train.readback import Readback
from kd.train.sinks.progress import make_progress
from kd.train.start import start, step_graph, step_teacher
from kd.train.step import TrainState, distill_step, set_numbers
from kd.types import Batch
from kd.units import counted

TEACHER, STUDENT, STEP = "teacher forward", "student step", "distillation step"
INT8, CACHED = "with an INT8 teacher", "with a full cache"
LOOP, LOOP_GRAPH = "in the training loop", "in the training loop, graph"
RATIOS = (
    (STEP, (TEACHER, STUDENT)),
    (INT8, (STEP,)),
    (CACHED, (STUDENT,)),
    (LOOP, (STEP,)),
    (LOOP, (STUDENT,)),
    (LOOP_GRAPH, (LOOP,)),
)


def bench_command(recipe: Recipe, *, runs: Path, rounds: int = 10, everything: bool = False) -> None:
    """Print the seconds per step of teacher forward, student step and distillation step, and their ratios.

    Args:
        recipe: a step is one micro-batch of its run.
        runs: where run directories are.
        rounds: timed rounds, of which the median is shown.
        everything: time a teacher in INT8, a full cache and the update of mIoU too, whatever the recipe says.
    """
    opened = open_parts(in_this_process(recipe), runs=runs, trained=False)
    loading = settled_outside_run(replace(opened, recipe=recipe), runs)
    for line in loading.notes:
        print_line(line)
    recipe = in_this_process(loading.recipe)
    parts = replace(loading, recipe=recipe)
    restart_peak(parts.precision.device)
    with tempfile.TemporaryDirectory() as folder:
        times = time_step(parts, rounds, Path(folder), everything=everything)
    medians = medians_of(times)
    images = recipe.images_per_step // recipe.accumulate
    rows = [(name, f"{value:.3f}", f"{images / value:.1f}") for name, value in medians.items()]
    threads = counted(torch.get_num_threads(), "thread")
    print_line(
        f"{parts.precision}, {threads}, {counted(images, 'image')} at a time, compile: {recipe.compiled}, "
        f"median of {counted(rounds, 'round')}"
    )
    stdout().print(make_table(("part", "s/step", "images/s"), rows))
    for line in _ratios(times):
        print_line(line)
    peak = peak_memory(parts.precision.device)
    loaded = images_per_second(stream(loading, seed=0, steps=sys.maxsize), len(parts.training))
    trained = images / medians.get(LOOP_GRAPH, medians[LOOP])
    print_line(limit_line(loading.recipe, parts.precision.device, loaded, trained))
    if everything:
        print_line(miou_line(len(parts.train.class_names), recipe.scored_size, rounds))
    if peak is not None:
        print_line(f"peak memory {peak / 1e6:.0f} MB")


def _ratios(times: Times) -> Iterator[str]:
    for part, divisors in RATIOS:
        if {part, *divisors} <= times.keys() and not (divisors == (STUDENT,) and part == LOOP and STEP in times):
            name = divisors[0] if len(divisors) == 1 else f"({' + '.join(divisors)})"
            yield f"{part} / {name} = {ratio_of(times, part, divisors):.3f}"


def limit_line(recipe: Recipe, device: torch.device, loaded: float, trained: float) -> str:
    """Whether the loader or the step is the limit, for the user; both in images per second."""
    workers = loader_workers(recipe.data.workers, device)
    who = workers_text(workers) + ("" if workers else ": it loads between the steps")
    limit = "the step" if loaded >= trained else "the loader"
    return (
        f"loader alone: {loaded:.0f} images/s ({who}), {loaded / trained:.1f} × what the step trains; "
        f"{limit} is the limit"
    )


def time_step(parts: Parts, rounds: int, folder: Path, *, everything: bool = False) -> dict[str, list[float]]:
    """Seconds of each part in each round, in an order in which those that are compared follow on one another.

    Each step is a
    whole update (forward, backward, optimizer) on the same micro-batch, without reading data. The training loop adds
    its work between evaluations and checkpoints, on a GPU as it is and as a graph. A recipe's cache is filled in
    `folder`, not in its own folder.
    """
    recipe = parts.recipe
    uncached = replace(parts, recipe=recipe.changed(cache=None))
    run = start(uncached, seed=0, say=print_line)
    others = _other_teachers(parts, folder, everything=everything)
    loaded = next(stream(others.get(CACHED, parts), seed=0))  # with the sums that a cached teacher needs
    batch = to_device(loaded, run.precision)
    alone = replace(run, teacher=lambda _: None, terms={})
    run.student.train()
    set_numbers(run)
    taught: dict[str, Job] = {
        name: partial(_update, replace(run, teacher=step_teacher(other, seed=0, say=print_line)), batch)
        for name, other in others.items()
    }
    jobs = {name: job for name, job in taught.items() if name == CACHED}
    jobs[STUDENT] = lambda: _update(alone, batch)
    if parts.teacher is not None:
        jobs |= {TEACHER: lambda: _teach(run, batch), STEP: lambda: _update(run, batch)}
    untracked = recipe.changed(track=None)
    progress = make_progress(folder, untracked, role="student", seed=0, steps=sys.maxsize, start=0, quiet=True)
    loop = replace(run, steps=sys.maxsize, accumulate=1)  # no step is the last one, which would be reported
    graph = step_graph(parts, loop)
    loops = {LOOP: StepGraph()} | ({} if graph.recorder is None else {LOOP_GRAPH: graph})
    for name, launched in loops.items():
        watch = Watch(
            reports=Reports(progress, every=recipe.log.every, batch_size=recipe.images_per_step),
            guard=Guard(recipe.train.on_nan, recipe.train.nan_limit),
            readback=Readback(run.precision.device),
            graph=launched,
        )
        jobs[name] = partial(_train_on, loop, watch, loaded, parts.steps)
    jobs |= taught  # the step with an INT8 teacher; the one with a cache keeps its place
    with closing(progress):
        for _ in range(WARM_UP + 1 if LOOP_GRAPH in jobs else 0):
            jobs[LOOP_GRAPH]()
        return time_in_turn(jobs, rounds, lambda job: seconds(job, run.precision.device))


def _other_teachers(parts: Parts, folder: Path, *, everything: bool) -> dict[str, Parts]:
    """The parts with a cached teacher if the recipe has a cache; of `everything`, with one in INT8 too.

    A line states why one of them cannot be timed.
    """
    recipe, others = parts.recipe, dict[str, Parts]()
    if parts.teacher is None or recipe.teacher is None:
        return others
    if everything and not recipe.teaches_in_int8:
        quantised = recipe.changed(cache=None, teacher=recipe.teacher.model_copy(update={"precision": "int8"}))
        try:
            check_int8(quantised, parts.precision, parts.notes)
            others[INT8] = replace(parts, recipe=quantised)
        except RecipeError as error:
            print_line(f"{INT8}: not timed ({error})")
    cache = recipe.cache or (CacheConfig(views=1) if everything else None)
    if cache is not None and not recipe.not_cached:
        kept = cache.model_copy(update={"folder": str(folder / "cache")})
        others[CACHED] = replace(parts, recipe=recipe.changed(cache=kept))
    elif everything:
        print_line(f"{CACHED}: not timed ({recipe.not_cached})")
    return others


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
