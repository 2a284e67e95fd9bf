from pathlib import Path

import pytest
import torch
from fake_graph import FakeRecorder

from kd.bench import gpu
from kd.cli import main
from kd.parts.assemble import Parts
from kd.parts.optimizer import stay_on_gpu
from kd.train import suspects
from kd.train.scalars import Scalars
from kd.train.start import start
from kd.train.step import TrainState
from kd.train.update import Update


def test_without_a_gpu_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["bench", "--gpu"]) == 2
    assert capsys.readouterr().err == "kd bench: --gpu: torch finds no CUDA device; run it on a machine with one\n"


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
    assert set(seconds) == kinds | {"peak MB"}
    assert all(value > 0 for value in seconds.values())
