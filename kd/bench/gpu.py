"""`kd bench --gpu`: what a GPU's step costs in parts, in the training loop, and in a CUDA graph, side by side."""

import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd.bench.clock import seconds
from kd.bench.rounds import Job, Ratio, Times, medians_of, ratio_of, time_in_turn
from kd.console import make_table, print_line, print_text, stdout
from kd.data.speed import images_per_second
from kd.errors import RecipeError
from kd.machine import describe
from kd.memory import peak_memory, restart_peak
from kd.parts.assemble import Parts, assemble
from kd.parts.compiling import is_compiled
from kd.parts.roles import to_device
from kd.parts.stream import stream
from kd.recipe import Recipe, read_recipe
from kd.runs import read_result
from kd.train.between_steps.guard import Guard
from kd.train.between_steps.reports import Reports
from kd.train.between_steps.watch import Watch
from kd.train.capture.graph import CudaRecorder, StepGraph
from kd.train.loop import train
from kd.train.readback import Readback
from kd.train.session import run_recipe
from kd.train.sinks.progress import make_progress
from kd.train.start import start, to_compile
from kd.train.step import TrainState, distill_step, set_numbers
from kd.types import Batch

SIZES = (((180, 240), 8), ((360, 480), 16))  # (height, width), images a step
STEPS = 20  # timed together, from an idle device to an idle device
NETWORKS = "FCN-ResNet50 → MobileNetV3-Small ASPP"
RECIPE = """
teacher: {{use: teachers.FCNResNet50}}
student: {{use: students.MobileNetV3SmallASPP}}
data: {data}
supervised: {{use: kd.losses.CrossEntropy}}
distill:
  kl: {{loss: {{use: kd.losses.PixelKL, args: {{temperature: 1.0}}}}}}
  cwd: {{loss: {{use: kd.losses.CWD, args: {{temperature: 4.0}}}}, weight: 3.0}}
optimizer: {{use: torch.optim.SGD, args: {{lr: 0.02, momentum: 0.9, weight_decay: 1e-4}}}}
schedule: {{use: kd.schedules.poly, args: {{power: 0.9}}}}
train: {{{length}, batch_size: {batch_size}, evaluate_every: 0, save_every: 0, compile: {compile}}}
log: {{tensorboard: false, panels: 0}}
"""
SHAPES = "{{use: kd.data.Shapes, args: {{count: 64}}, size: [{}, {}], workers: 0}}"  # drawn; read once
CAMVID = "{{use: kd.data.CamVid, args: {{root: {}}}, size: [180, 240], augment: [{}, {}]}}"
AUGMENT = ("{use: kd.data.RandomScale, args: {low: 0.5, high: 2.0}}", "{use: kd.data.RandomFlip}")

MOVED, TEACHER, STUDENT = "batch to the device", "teacher forward", "student step"
STEP, LOOP = "distillation step", "training loop"
WAITING, STEP_GRAPH, LOOP_GRAPH = "loop that waits at every step", "distillation step, graph", "training loop, graph"
RATIOS = ((LOOP, STEP), (LOOP_GRAPH, STEP_GRAPH), (LOOP_GRAPH, LOOP), (LOOP_GRAPH, WAITING))

Rows = Mapping[str, float | Ratio]


def gpu_command(*, camvid: Path | None = None, compiled: str = "off", rounds: int = 10, as_json: bool = False) -> None:
    """Print the rows of every size, and with `camvid` those of a whole run; each table when it is measured.

    Args:
        camvid: the root of CamVid; None leaves the whole run out.
        compiled: `train.compile`; compiling takes minutes.
        rounds: timed rounds, of which the tables show the median.
        as_json: print one JSON object per line instead of tables.

    Raises:
        RecipeError: torch finds no CUDA device.
    """
    if not torch.cuda.is_available():
        raise RecipeError("kd bench: --gpu: torch finds no CUDA device; run it on a machine with one")
    show = _print_json if as_json else _print
    print_text(json.dumps({"environment": describe()}) if as_json else describe())
    with tempfile.TemporaryDirectory() as folder:
        for size, batch_size in SIZES:
            parts = _parts(Path(folder), size, batch_size, compiled)
            name = f"{NETWORKS}, {size[0]}×{size[1]}, batch {batch_size}, compile: {parts.recipe.train.compile}"
            show(name, time_steps(parts, Path(folder), rounds), batch_size)
        if camvid is not None:
            show(f"{NETWORKS}, CamVid 180×240, 30 epochs", whole_runs(Path(folder), camvid), 8)


def time_steps(parts: Parts, folder: Path, rounds: int) -> Rows:
    """Median seconds of a step, of each kind, and the ratios of those that are compared.

    Raises:
        RecipeError: the recipe's networks cannot be compiled.
    """
    restart_peak(parts.precision.device)
    run = start(parts, seed=0)
    if not all(map(is_compiled, to_compile(parts))):
        raise RecipeError("kd bench: --compiled: torch.compile failed, as the warning states; leave --compiled out")
    loaded = next(stream(parts, seed=0))
    batch = to_device(loaded, run.precision)
    run.student.train()
    set_numbers(run)
    alone = replace(run, teacher=lambda _: None, terms={})
    endless = itertools.repeat(loaded)

    @cache
    def captured() -> Callable[[], None]:
        """Replays the bare step, on the batch that is there: without the loop's norm, checks, numbers and copies."""
        return CudaRecorder(run.precision.device).capture(lambda: _update(run, batch))[0]

    made = make_progress(folder, parts.recipe, role="student", seed=0, steps=parts.steps, start=0, quiet=True)
    with closing(made) as progress:
        watches = {name: _watch(parts, progress, name) for name in (LOOP, LOOP_GRAPH, WAITING)}
        loop = {name: partial(_loop, run, watch, endless) for name, watch in watches.items()}
        jobs: dict[str, Job] = {
            MOVED: lambda: _each(lambda: to_device(loaded, run.precision)),
            TEACHER: lambda: _each(lambda: _teach(run, batch)),
            STUDENT: lambda: _each(lambda: _update(alone, batch)),
            STEP: lambda: _each(lambda: _update(run, batch)),
            LOOP: loop[LOOP],
            STEP_GRAPH: lambda: _each(captured()),  # after steps that made the optimizer's state
            LOOP_GRAPH: loop[LOOP_GRAPH],
            WAITING: loop[WAITING],
        }
        times = time_in_turn(jobs, rounds, lambda job: seconds(job, run.precision.device) / STEPS)
        assert watches[LOOP_GRAPH].graph.captured
    peak = {"peak MB": (peak_memory(run.precision.device) or 0) / 2**20}
    return medians_of(times) | peak | _ratios(times)


def whole_runs(folder: Path, camvid: Path) -> Rows:
    """Seconds of training, with and without a graph, and what the loader alone gives."""
    data = CAMVID.format(camvid, *AUGMENT)
    recipe = _recipe(folder, data, "epochs: 30", 8)
    parts = assemble(recipe, runs=folder, seed=0)
    loaded = images_per_second(stream(parts, seed=0, steps=sys.maxsize), len(parts.training))
    rows = {"loader alone, images/s": loaded}
    for name, graph in (("training, graph off", "off"), ("training, graph", "auto")):
        train_config = recipe.train.model_copy(update={"graph": graph})
        changed = recipe.changed(train=train_config)
        (run_dir,) = run_recipe(changed, runs=folder / graph, say=lambda line: None, quiet=True)
        rows[name] = read_result(run_dir).seconds
    return rows | {"ratio": rows["training, graph"] / rows["training, graph off"]}


def _recipe(folder: Path, data: str, length: str, batch_size: int, compiled: str = "off") -> Recipe:
    file = folder / "bench.yaml"
    file.write_text(RECIPE.format(data=data, length=length, batch_size=batch_size, compile=compiled), encoding="utf-8")
    return read_recipe(file)


def _parts(folder: Path, size: tuple[int, int], batch_size: int, compiled: str = "off") -> Parts:
    recipe = _recipe(folder, SHAPES.format(*size), "steps: 100000", batch_size, compiled)
    return assemble(recipe, runs=folder, seed=0)


def _watch(parts: Parts, progress: Any, name: str) -> Watch:
    device = parts.precision.device
    graph = StepGraph(CudaRecorder(device) if name == LOOP_GRAPH else None)
    policy = "restore" if name == WAITING else "stop"  # it reads the numbers of every step
    reports = Reports(progress, every=parts.recipe.log.every, batch_size=parts.recipe.train.batch_size)
    return Watch(reports=reports, guard=Guard(policy), readback=Readback(device), graph=graph)


def _each(job: Callable[[], object]) -> None:
    for _ in range(STEPS):
        job()


def _loop(run: TrainState, watch: Watch, batches: Iterator[Batch]) -> None:
    """Steps of the training loop, without evaluations and checkpoints."""
    train(replace(run, step=0, steps=STEPS, batches=batches), watch)


def _teach(run: TrainState, batch: Batch) -> None:
    with run.precision.autocast():
        run.teacher(batch)


def _update(run: TrainState, batch: Batch) -> Tensor:
    total = distill_step(run, batch)["total"]
    total.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.optimizer.zero_grad()
    return total.detach()


def _ratios(times: Times) -> dict[str, Ratio]:
    return {f"{part} / {whole}": ratio_of(times, part, [whole]) for part, whole in RATIOS}


def _print_json(title: str, rows: Rows, batch_size: int) -> None:
    shown = {name: value._asdict() if isinstance(value, Ratio) else value for name, value in rows.items()}
    print_text(json.dumps({title: shown}))


def _print(title: str, rows: Rows, batch_size: int) -> None:
    steps = (MOVED, TEACHER, STUDENT, STEP, LOOP, STEP_GRAPH, LOOP_GRAPH, WAITING)
    speeds = {
        name: f"{batch_size / value:.0f}" for name, value in rows.items() if name in steps and isinstance(value, float)
    }
    shown = [(name, f"{value:.4g}", speeds.get(name, "")) for name, value in rows.items()]
    print_line(title)
    stdout().print(make_table(("part", "value", "images/s"), shown))
