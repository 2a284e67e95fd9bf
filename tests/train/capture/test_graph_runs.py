"""Whole runs whose steps are captured and decided on the device, on the CPU with a recorder of calls."""

import re
import warnings

import pytest
import torch
from fake_graph import FakeRecorder
from tiny import cut_at, equal, read, run, weights, write_pictures, write_recipes

from kd.errors import DivergedError
from kd.parts.optimizer import stay_on_gpu
from kd.train import one_run
from kd.train.capture.graph import StepGraph
from kd.train.scalars import Scalars
from kd.train.update import Update

RICH = (
    "distill.hint=null",
    "train={steps: 16, evaluate_every: 8, save_every: 5, batch_size: 4, accumulate: 2, ema: 0.9, clip_norm: 1.0}",
    "distill.kl.weight={use: kd.schedules.linear, args: {start: 0.0, end: 3.0, over: 50%}}",
)
MEMORY = """
  memory:
    loss: {use: kd.losses.CIRKDMemory, args: {pixel_queue: 20, region_queue: 20, pixel_samples: 8, region_samples: 8}}
    at: {student: low, teacher: low}
    adapter: {use: kd.adapters.Conv1x1}
"""
UNLABELLED = "data.unlabelled={images: more, ratio: 0.5}"
PHASES = "phases=[{until: 50%, lr: 0.02}, {}]"


@pytest.fixture
def graphs(monkeypatch):
    """Runs take the route of a GPU; `graphs(True)` captures their steps, and returns the recorder."""
    start = one_run.start

    def on_device(parts, **options):
        made = start(parts, **options)
        assert stay_on_gpu(made.optimizer)
        made.phases.scalars = Scalars(torch.device("cpu"))
        skip = parts.recipe.train.on_nan == "skip"
        made.update = Update(made.optimizer, made.ema, on_device=True, undo_buffers=skip)
        return made

    def choose(captured):
        recorder = FakeRecorder() if captured else None
        monkeypatch.setattr(one_run, "step_graph", lambda parts, run: StepGraph(recorder))
        return recorder

    monkeypatch.setattr(one_run, "start", on_device)
    return choose


@pytest.mark.parametrize(
    "further",
    [
        pytest.param((), id="one phase", marks=pytest.mark.slow),
        pytest.param((PHASES,), id="phases"),
        pytest.param(("cache={views: 2, dtype: float32}",), id="cache", marks=pytest.mark.slow),
        pytest.param(("teacher.scale=1.5", "teacher.flip=true"), id="larger", marks=pytest.mark.slow),
        pytest.param(
            ("data.unlabelled={images: more, cutmix: 1.0}", "distill.kl.pixels=all", "train.scales=[1.0, 1.5]"),
            id="mixed",
            marks=pytest.mark.slow,
        ),
        pytest.param((UNLABELLED, "distill.kl.pixels=all"), id="unlabelled", marks=pytest.mark.slow),
    ],
)
def test_a_captured_run_ends_with_the_same_bits_cut_or_not(graphs, folder, further):
    path = write_recipes(folder)
    write_pictures(folder / "more", 5)
    path.write_text(path.read_text() + MEMORY.lstrip("\n"))
    recipe = read(path, *RICH, *further)
    graphs(False)
    (plain,), _ = run(recipe, folder / "plain")
    recorder = graphs(True)
    (captured,), _ = run(recipe, folder / "captured")
    assert recorder.captures >= (3 if PHASES in further else 2)  # the teacher's run, and the student's phases
    cut_at(11, recipe, folder / "cut")
    (resumed,), _ = run(recipe, folder / "cut")
    for other in (captured, resumed):
        assert equal(weights(plain), weights(other))
        assert (plain / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()


def with_a_white_image(folder):
    """A recipe whose network turns an image of 255 everywhere infinite, and one such image in the second epoch."""
    path = write_recipes(folder)
    nets = folder / "nets.py"
    text = nets.read_text()
    text = text.replace(
        "        return Sample((noise",
        "        if key == (self.offset + 5, 1): noise.fill_(255)\n        return Sample((noise",
    )
    text = text.replace(
        "        low = torch.relu",
        "        images = images / (images.flatten(1).amin(1) < 0.99)[:, None, None, None]\n        low = torch.relu",
    )
    text = text.replace("200 * labels).to(torch.uint8)", "200 * labels).clamp(max=255).to(torch.uint8)")
    nets.write_text(text)
    return path


@pytest.mark.parametrize("policy", ["skip", "restore"])
def test_a_step_that_is_not_finite_is_left_out_as_on_a_cpu(graphs, folder, policy):
    path = with_a_white_image(folder)
    overrides = ("teacher=null", "distill=null", "train.steps=10", "train.save_every=2", f"train.on_nan={policy}")
    recipe = read(path, *overrides)
    outcomes = []
    for captured in (False, True):
        recorder = graphs(captured)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            (run_dir,), _ = run(recipe, folder / str(captured))
        lines = [re.sub(r"; the batch is in \S+;", ";", str(warning.message)) for warning in caught]
        outcomes.append((lines, weights(run_dir), (run_dir / "metrics.jsonl").read_text()))
    (lines, plain, metrics), (others, replayed, other_metrics) = outcomes
    assert recorder.replays > 0
    assert lines == others
    (line,) = lines
    assert re.match(r"step [456]: term 'supervised' is nan .*sample 5.*", line)
    assert equal(plain, replayed)
    assert metrics == other_metrics


def test_stop_names_the_step_and_its_images(graphs, folder):
    path = with_a_white_image(folder)
    recorder = graphs(True)
    with pytest.raises(DivergedError, match=r"step [456]: term 'supervised' is nan .*sample 5"):
        run(read(path, "teacher=null", "distill=null", "train.steps=10"), folder / "runs")
    assert recorder.replays > 0
    (file,) = (folder / "runs").rglob("not-finite-step*.pt")
    assert 5 in torch.load(file, weights_only=True)["batches"][0]["keys"][:, 0]
