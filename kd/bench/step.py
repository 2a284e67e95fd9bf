"""`kd bench RECIPE`: the distillation step against its unavoidable parts, round-robin in one process."""

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from kd.components.build import check_calls
from kd.console import stdout
from kd.machine import peak_memory
from kd.parts.assemble import Parts, assemble
from kd.parts.dry_run import meet
from kd.parts.roles import to_device
from kd.recipe import read_recipe
from kd.train.bookkeeping import Bookkeeping
from kd.train.checkpoint import Checkpoints
from kd.train.guard import Guard
from kd.train.loop import train
from kd.train.signals import Stop
from kd.train.sinks.progress import Progress, make_progress
from kd.train.start import make_run, taught_by
from kd.train.step import Run, distill_step
from kd.types import Batch

TEACHER, STUDENT, STEP = "teacher forward", "student step", "distillation step"
CACHED, LOOP = "with a full cache", "in the training loop"


def bench_command(
    file: str | Path, overrides: Sequence[str] = (), *, trust: bool, runs: Path, rounds: int = 10
) -> None:
    """Print seconds a step of teacher forward, student step and distillation step, and their ratios."""
    recipe = read_recipe(file, [*overrides, "data.workers=0"], trust=trust)
    check_calls(recipe)
    parts = assemble(recipe, runs=runs, seed=recipe.train.seeds[0], trained=False)
    meet(parts)
    with tempfile.TemporaryDirectory() as folder:
        seconds = time_step(parts, rounds, Path(folder))
    table = Table(title=f"{parts.precision}, {torch.get_num_threads()} threads, median of {rounds}")
    for name in ("part", "s/step", "images/s"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.3f}", f"{recipe.train.batch_size / recipe.train.accumulate / value:.1f}")
    console = stdout()
    console.print(table)
    base = STEP if STEP in seconds else STUDENT
    for part, of in ((STEP, (TEACHER, STUDENT)), (CACHED, (STUDENT,)), (LOOP, (base,))):
        if part in seconds:
            name = of[0] if len(of) == 1 else f"({' + '.join(of)})"
            console.print(f"{part} / {name} = {seconds[part] / sum(seconds[one] for one in of):.3f}")
    console.print(f"peak memory {peak_memory(parts.precision.device) / 2**20:.0f} MB")


def time_step(parts: Parts, rounds: int, folder: Path) -> dict[str, float]:
    """Median seconds of each part over `rounds` rounds, after two rounds of warm-up.

    Every round runs every part once, so a drift of the machine's speed meets all of them alike. Each step is a whole
    update (forward, backward, optimizer) on the same micro-batch, without reading data. The training loop adds what it
    does between evaluations and checkpoints; a recipe's cache is filled in `folder`, not in its own.
    """
    recipe = parts.recipe
    uncached = replace(parts, recipe=recipe.model_copy(update={"cache": None}))
    run = make_run(uncached, seed=0, start=0, due=lambda *_: None)
    loaded = next(run.batches)
    batch = to_device(loaded, run.precision)
    alone = replace(run, teacher=lambda _: None, terms={})
    run.student.train()
    jobs: dict[str, Callable[[], object]] = {STUDENT: lambda: _update(alone, batch)}
    if parts.teacher is not None:
        jobs = {TEACHER: lambda: _teach(run, batch), **jobs, STEP: lambda: _update(run, batch)}
    if recipe.cache is not None:
        cache = recipe.cache.model_copy(update={"folder": str(folder / "cache")})
        kept = replace(parts, recipe=recipe.model_copy(update={"cache": cache}))
        cached = replace(run, teacher=taught_by(kept, seed=0))
        jobs[CACHED] = lambda: _update(cached, batch)
    untold = recipe.model_copy(update={"track": None})
    progress = make_progress(folder, untold, seed=0, steps=sys.maxsize, start=0, quiet=True)
    loop = replace(
        run,
        batches=itertools.repeat(loaded),
        accumulate=1,
        factor=lambda step: run.factor(step % parts.steps),  # a short recipe ends before the rounds do
        due=_bookkeeping(parts, progress, folder),
    )
    jobs[LOOP] = lambda: _train_on(loop)
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    with closing(progress):
        for _ in range(rounds + 2):
            for name, job in jobs.items():
                _wait(run)
                began = time.perf_counter()
                job()
                _wait(run)
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values[2:]) for name, values in taken.items()}


def _bookkeeping(parts: Parts, progress: Progress, folder: Path) -> Callable[[Run, Mapping[str, Tensor]], None]:
    """What training does after each step, evaluations and checkpoints apart, for a run that ends there."""
    recipe, never = parts.recipe, sys.maxsize
    book = Bookkeeping(
        Checkpoints(folder / "checkpoints"),
        progress,
        dict,
        report_every=recipe.log.every,
        evaluate_every=never,
        save_every=never,
        batch_size=recipe.train.batch_size,
        stop=Stop(),
        network=recipe.student.use,
        guard=Guard(recipe.train.on_nan, recipe.train.nan_limit, folder, str, lambda _: None),
        ema=parts.ema,
    )

    def due(run: Run, losses: Mapping[str, Tensor]) -> None:
        run.steps = never  # a last step would be evaluated and saved
        book(run, losses)
        run.steps = run.step

    return due


def _train_on(loop: Run) -> None:
    loop.steps = loop.step + 1
    train(loop)


def _teach(run: Run, batch: Batch) -> None:
    with run.precision.autocast():
        run.teacher(batch)


def _update(run: Run, batch: Batch) -> None:
    distill_step(run, batch)["total"].backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.optimizer.zero_grad()


def _wait(run: Run) -> None:
    if run.precision.device.type == "cuda":
        torch.cuda.synchronize(run.precision.device)
