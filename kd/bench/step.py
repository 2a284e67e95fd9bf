"""`kd bench RECIPE`: the distillation step against its unavoidable parts, round-robin in one process."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.table import Table

from kd.build import check_calls
from kd.console import stdout
from kd.engine.assemble import Parts, assemble, make_run
from kd.engine.check import meet
from kd.engine.step import distill_step
from kd.engine.train import Run, to_device
from kd.recipe import read_recipe
from kd.runs import peak_memory
from kd.types import Batch


def bench_command(
    file: str | Path, overrides: Sequence[str] = (), *, trust: bool, runs: Path, rounds: int = 10
) -> None:
    """Print seconds a step of teacher forward, student step and distillation step, and their ratio."""
    recipe = read_recipe(file, [*overrides, "data.workers=0"], trust=trust)
    check_calls(recipe)
    parts = assemble(recipe, runs=runs, seed=recipe.train.seeds[0], trained=False)
    meet(parts)
    seconds = time_step(parts, rounds)
    table = Table(title=f"{parts.precision}, {torch.get_num_threads()} threads, median of {rounds}")
    for name in ("part", "s/step", "images/s"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.3f}", f"{recipe.train.batch_size / value:.1f}")
    console = stdout()
    console.print(table)
    if parts.teacher is not None:
        ratio = seconds["distillation step"] / (seconds["teacher forward"] + seconds["student step"])
        console.print(f"distillation step / (teacher forward + student step) = {ratio:.3f}")
    console.print(f"peak memory {peak_memory(parts.precision.device) / 2**20:.0f} MB")


def time_step(parts: Parts, rounds: int) -> dict[str, float]:
    """Median seconds of each part over `rounds` rounds, after two rounds of warm-up.

    Every round runs every part once, so a drift of the machine's speed meets all of them alike. Both steps are whole
    updates (forward, backward, optimizer) on the same batch, without reading data.
    """
    run = make_run(parts, seed=0, start=0, due=lambda *_: None)
    batch = to_device(next(run.batches), run.precision)
    alone = make_run(parts, seed=0, start=0, due=lambda *_: None)
    alone.teacher, alone.terms = (lambda _: None), {}
    run.student.train()
    jobs: dict[str, Callable[[], object]] = {"student step": lambda: _update(alone, batch)}
    if parts.teacher is not None:
        jobs = {"teacher forward": lambda: _teach(run, batch)} | jobs
        jobs["distillation step"] = lambda: _update(run, batch)
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds + 2):
        for name, job in jobs.items():
            _wait(run)
            began = time.perf_counter()
            job()
            _wait(run)
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values[2:]) for name, values in taken.items()}


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
