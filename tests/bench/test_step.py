import sys
from pathlib import Path

import pytest
import torch
from fake_graph import FakeRecorder
from tiny import read, write_recipes

from kd.bench import step
from kd.bench.step import (
    CACHED,
    INT8,
    LOOP,
    LOOP_GRAPH,
    STEP,
    STUDENT,
    TEACHER,
    _ratios,
    bench_command,
    limit_line,
    time_step,
)
from kd.data.speed import images_per_second
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.parts.optimizer import stay_on_gpu
from kd.parts.stream import stream
from kd.recipe import read_recipe
from kd.train.auto import settling
from kd.train.capture import suspects
from kd.train.capture.graph import StepGraph
from kd.train.scalars import Scalars
from kd.train.start import start
from kd.train.update import Update

RECIPE = """
student: {use: students.MobileNetV3SmallASPPLite}
data: {use: kd.data.Shapes, args: {count: 2, size: 64}, size: [64, 64], workers: 1}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.01}}
train: {steps: 2, batch_size: 1, evaluate_every: 1}
log: {tensorboard: false}
"""
CPU = torch.device("cpu")


def recipe_of(folder: Path, *overrides: str):
    (folder / "recipe.yaml").write_text(RECIPE)
    return read_recipe(folder / "recipe.yaml", overrides)


def test_a_recipe_of_fewer_steps_than_rounds_is_timed(tmp_path: Path) -> None:
    parts = assemble(recipe_of(tmp_path, "data.workers=0"), runs=tmp_path, seed=0)
    seconds = time_step(parts, 3, tmp_path)  # five rounds: poly has no value after the last step
    assert len(seconds[LOOP]) == 3
    assert min(seconds[LOOP]) > 0


def test_on_a_gpu_the_loop_is_timed_as_it_is_and_as_a_graph(tmp_path: Path, monkeypatch) -> None:
    def on_device(parts, **options):
        run = start(parts, **options)
        assert stay_on_gpu(run.optimizer)
        run.phases.scalars, run.update = Scalars(CPU), Update(run.optimizer, None, on_device=True)
        return run

    recorder = FakeRecorder()
    monkeypatch.setattr(step, "start", on_device)
    monkeypatch.setattr(step, "step_graph", lambda parts, loop: StepGraph(recorder))
    monkeypatch.setattr(suspects, "GENERATORS", suspects.GENERATORS[1:])  # the checks of shapes draw from Python's
    parts = assemble(read(write_recipes(tmp_path)), runs=tmp_path, seed=0, trained=False)
    seconds = time_step(parts, 2, tmp_path)
    assert set(seconds) == {TEACHER, STUDENT, STEP, LOOP, LOOP_GRAPH}
    assert (recorder.captures, recorder.replays) == (1, 1 + 2 + 2)  # the capture's own round, warm-up and timed ones
    (line,) = [line for line in _ratios({name: [1.0, 1.0] for name in seconds}) if LOOP_GRAPH in line]
    assert line == "in the training loop, graph / in the training loop = 1.000 (1.000 to 1.000)"


def test_a_recipe_of_two_steps_has_a_speed_of_loading(tmp_path: Path) -> None:
    parts = assemble(recipe_of(tmp_path), runs=tmp_path, seed=0)
    batches = stream(parts, seed=0, steps=sys.maxsize)
    assert images_per_second(batches, len(parts.training), warm=0.1, timed=0.1) > 0


def test_the_slower_of_the_two_is_the_limit(tmp_path: Path) -> None:
    assert limit_line(recipe_of(tmp_path), CPU, 300, 60) == (
        "loader alone: 300 images/s (1 worker), 5.0 × what the step trains; the step is the limit"
    )
    assert limit_line(recipe_of(tmp_path, "data.workers=0"), CPU, 30, 60) == (
        "loader alone: 30 images/s (no worker: it loads between the steps), 0.5 × what the step trains; "
        "the loader is the limit"
    )


@pytest.fixture
def quick_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "images_per_second", lambda *arguments: 100.0)


@pytest.mark.usefixtures("quick_loader")
def test_everything_is_timed_in_one_call(tmp_path, monkeypatch, capsys) -> None:
    def refuse(*arguments):
        raise RecipeError("onnxruntime is not installed")

    monkeypatch.setattr(step, "check_int8", refuse)
    recipe = read(write_recipes(tmp_path))
    bench_command(recipe, runs=tmp_path, rounds=1, everything=True)
    lines = capsys.readouterr().out.splitlines()
    assert "with an INT8 teacher: not timed (onnxruntime is not installed)" in lines
    starts = (
        "distillation step / (teacher forward + student step) = ",
        "with a full cache / student step = ",
        "in the training loop / distillation step = ",
        "loader alone: 100 images/s (no worker: it loads between the steps), ",
        "update of the mIoU, 2 classes, 32 × 32 pixels: ",
    )
    for begun in starts:
        assert any(line.startswith(begun) for line in lines), begun
    assert any("; torchmetrics' MeanIoU / ours = " in line for line in lines)
    assert not (tmp_path / "teacher-cache").exists()
    rows = [name for line in lines for name in (CACHED, STUDENT, TEACHER, STEP, LOOP) if line.startswith(f"{name}  ")]
    assert rows == [CACHED, STUDENT, TEACHER, STEP, LOOP]  # timed in this order: what is compared are neighbours


@pytest.mark.usefixtures("quick_loader")
@pytest.mark.parametrize(("micro_batches", "images"), [(1, 4), (2, 2)])
def test_what_is_auto_is_timed_as_the_run_takes_it(tmp_path, monkeypatch, capsys, micro_batches, images) -> None:
    found = {"accumulate": (micro_batches, "found micro-batches"), "compile": ("off", "found networks to compile")}
    monkeypatch.setattr(settling, "SEARCHES", {key: lambda parts, of=of: of for key, of in found.items()})
    monkeypatch.setattr(step, "time_step", lambda *arguments, **options: {STUDENT: [0.5], LOOP: [0.5]})
    recipe = read(write_recipes(tmp_path), "train.accumulate=auto", "train.compile=auto", "teacher=null", "distill={}")
    bench_command(recipe, runs=tmp_path, rounds=1)
    lines = capsys.readouterr().out.splitlines()
    assert {"found micro-batches", "found networks to compile"} <= set(lines)
    (title,) = [line for line in lines if line.startswith("cpu, ")]
    assert title.endswith(f", {images} images at a time, compile: off, median of 1 round")
    assert any(line.split() == ["student", "step", "0.500", f"{2 * images}.0"] for line in lines)
    assert any(f", {100 / (2 * images):.1f} × what the step trains; " in line for line in lines)


@pytest.mark.usefixtures("quick_loader")
def test_a_teacher_that_changes_has_no_cache_to_time(tmp_path, capsys) -> None:
    recipe = read(write_recipes(tmp_path), "train.scales=[0.5, 1.0]")
    bench_command(recipe, runs=tmp_path, rounds=1, everything=True)
    lines = capsys.readouterr().out.splitlines()
    assert "with a full cache: not timed (train.scales change the teacher's images in every step)" in lines


def test_without_torchmetrics_a_line_says_so(monkeypatch) -> None:
    monkeypatch.setattr("kd.bench.miou.find_spec", lambda name: None)
    assert step.miou_line(3, (8, 8), 1).endswith(" ms (torchmetrics is not installed)")


@pytest.mark.slow
def test_a_teacher_in_int8_is_timed_beside_the_float_one(tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    recipe = read(write_recipes(tmp_path))
    parts = assemble(recipe, runs=tmp_path, seed=0, trained=False)
    seconds = time_step(parts, 1, tmp_path, everything=True)
    assert {INT8, CACHED, STEP} <= seconds.keys()
