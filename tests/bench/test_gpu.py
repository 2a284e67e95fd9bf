import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_graph import FakeRecorder
from toy import CPU

from kd.bench import gpu
from kd.bench.rounds import Ratio
from kd.cli import main
from kd.errors import RecipeError
from kd.parts.assemble import Parts
from kd.parts.optimizer import stay_on_gpu
from kd.train.capture import suspects
from kd.train.scalars import Scalars
from kd.train.start import start
from kd.train.step import TrainState
from kd.train.update import Update


def test_without_a_gpu_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["bench", "--gpu"]) == 2
    assert capsys.readouterr().err == "kd bench: --gpu: torch finds no CUDA device; run it on a machine with one\n"


def test_the_title_names_the_networks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    parts = SimpleNamespace(recipe=SimpleNamespace(train=SimpleNamespace(compile="off")))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "describe", lambda: "the machine")
    monkeypatch.setattr(gpu, "_parts", lambda *arguments: parts)
    monkeypatch.setattr(gpu, "time_steps", lambda *arguments: {gpu.STEP: 0.5})
    gpu.gpu_command()
    assert capsys.readouterr().out.splitlines()[:2] == [
        "the machine",
        "FCN-ResNet50 → MobileNetV3-Small ASPP, 180×240, batch 8, compile: off",
    ]


def on_device(parts: Parts, *, seed: int) -> TrainState:
    """A run that decides its updates as on a GPU."""
    run = start(parts, seed=seed)
    assert stay_on_gpu(run.optimizer)
    run.phases.scalars = Scalars(torch.device("cpu"))
    run.update = Update(run.optimizer, None, on_device=True)
    return run


@pytest.mark.slow
def test_every_kind_of_step_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "CudaRecorder", lambda device: FakeRecorder())
    monkeypatch.setattr(gpu, "STEPS", 5)
    monkeypatch.setattr(gpu, "start", on_device)
    monkeypatch.setattr(suspects, "GENERATORS", suspects.GENERATORS[1:])  # the checks of shapes draw from Python's
    seconds = gpu.time_steps(gpu._parts(tmp_path, (64, 64), 2), tmp_path, 1)
    kinds = {gpu.MOVED, gpu.TEACHER, gpu.STUDENT, gpu.STEP, gpu.STEP_GRAPH, gpu.WAITING, gpu.LOOP, gpu.LOOP_GRAPH}
    ratios = {f"{part} / {whole}" for part, whole in gpu.RATIOS}
    assert set(seconds) == kinds | ratios | {"peak MB"}
    assert all((value.lowest if isinstance(value, Ratio) else value) > 0 for value in seconds.values())


def test_a_ratio_is_that_of_jobs_of_one_round() -> None:
    """A machine that is slower in one round changes no ratio of that round."""
    speeds = (1.0, 4.0, 2.0)
    alone = {gpu.STEP: 100, gpu.LOOP: 102, gpu.STEP_GRAPH: 20, gpu.LOOP_GRAPH: 21, gpu.WAITING: 110}
    ratios = gpu._ratios({name: [value * speed for speed in speeds] for name, value in alone.items()})
    assert ratios[f"{gpu.LOOP} / {gpu.STEP}"] == (1.02, 1.02, 1.02)
    assert ratios[f"{gpu.LOOP_GRAPH} / {gpu.STEP_GRAPH}"] == (1.05, 1.05, 1.05)


def test_a_ratio_is_shown_with_its_spread(capsys: pytest.CaptureFixture[str]) -> None:
    rows: gpu.Rows = {gpu.STEP: 0.5, "loop / step": Ratio(1.02, 1.0, 1.1)}
    gpu._print("64×64, batch 8", rows, 8)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["64×64,", "batch", "8"],
        ["part", "value", "images/s"],
        ["distillation", "step", "0.5", "16"],
        ["loop", "/", "step", "1.02", "(1", "to", "1.1)"],
    ]
    gpu._print_json("64×64, batch 8", rows, 8)
    ratio = '{"median": 1.02, "lowest": 1.0, "highest": 1.1}'
    line = '{"64×64, batch 8": {"distillation step": 0.5, "loop / step": ' + ratio + "}}"
    assert json.loads(capsys.readouterr().out) == json.loads(line)


def test_networks_that_cannot_be_compiled_are_not_timed_as_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "start", lambda parts, seed: None)  # after one warning, the roles run uncompiled
    recipe = SimpleNamespace(compiled="all", teaches_in_int8=False)
    role = SimpleNamespace(network=1, taps=SimpleNamespace(run=1))
    parts: Any = SimpleNamespace(precision=CPU, recipe=recipe, student=role, teaching=role)
    with pytest.raises(RecipeError) as caught:
        gpu.time_steps(parts, tmp_path, 1)
    assert str(caught.value) == (
        "kd bench: --compiled: torch.compile failed, as the warning states; leave --compiled out"
    )
