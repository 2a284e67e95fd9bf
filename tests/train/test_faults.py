"""The fault suite: a tenth of all faults by default, all with `slow`. A failure names its seed.

A run is disturbed repeatedly and resumes each time: an error in any resume shows in the final weights.
"""

import contextlib
import errno
import itertools
import os
import random
import shutil
import signal
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from poison import poison
from steps import at_each_step
from tensorboard.summary.writer.record_writer import RecordWriter
from tiny import equal, forked, in_child, read, run, tenth, weights, write_recipes
from torn import count_writes

from kd import cli
from kd.diagnose import plan
from kd.errors import DivergedError, LockedError, StorageError
from kd.parts.checks import dry_run
from kd.recipe import baseline_of
from kd.runs import is_finished
from kd.train import session as run_module
from kd.train.between_steps.checkpoint import Checkpoints, read_checkpoint
from kd.train.signals import SIGNALS
from kd.train.sinks import tensorboard, terminal

pytestmark = pytest.mark.timeout(3600)  # all faults take minutes of an idle core

MEMORY = """
  memory:
    loss: {use: kd.losses.CIRKDMemory, args: {pixel_queue: 20, region_queue: 20, pixel_samples: 8, region_samples: 8}}
    at: {student: low, teacher: low}
    adapter: {use: kd.adapters.Conv1x1}
"""


class Rich(NamedTuple):
    """A recipe with EMA, accumulation, dropout, taps, an adapter and a memory bank, and its undisturbed run."""

    path: Path
    overrides: tuple[str, ...]
    whole: Path
    steps: int
    seconds: float  # that the run took

    def arguments(self, *, workers=0):
        return [*self.overrides, f"data.workers={workers}"]

    def recipe(self, *, workers=0):
        return read(self.path, *self.arguments(workers=workers))

    def of(self, count):
        """The number of faults: `count`, or a tenth."""
        return count if self.steps == 60 else count // 10

    def spread(self, count):
        """`count` steps, or a tenth, evenly spread over the run; from 0."""
        return [index * self.steps // self.of(count) for index in range(self.of(count))]

    def ends_the_same(self, runs):
        """Finish the run of this recipe in `runs`, compare it with the undisturbed run, and remove it."""
        (run_dir,), _ = run(self.recipe(), runs)
        assert equal(weights(run_dir), weights(self.whole)), runs
        assert (run_dir / "metrics.jsonl").read_bytes() == (self.whole / "metrics.jsonl").read_bytes(), runs
        assert not list(run_dir.rglob(".tmp-*")), runs
        shutil.rmtree(runs)


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    """Without the dry run, which changes nothing and takes a large part of so short a run."""
    monkeypatch.setattr(dry_run, "dry_run", lambda parts: [])


@pytest.fixture(
    scope="module", params=[pytest.param(12, id="tenth"), pytest.param(60, id="whole", marks=pytest.mark.slow)]
)
def rich(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rich")
    path = write_recipes(folder)
    path.write_text(path.read_text() + MEMORY.lstrip("\n"))
    (taught,), _ = run(read(path).teacher_recipe, folder / "taught")
    steps = request.param
    overrides = (
        f"teacher={{use: 'nets.py:Net', args: {{channels: 8}}, weights: '{taught / 'student.safetensors'}'}}",
        "distill.hint=null",
        f"train={{steps: {steps}, evaluate_every: {steps // 3}, save_every: 5, batch_size: 4}}",
        "train.accumulate=2",
        "train.ema=0.9",
        "train.checkpoints=all",
    )
    began = time.monotonic()
    (whole,), _ = run(read(path, *overrides), folder / "whole")
    return Rich(path, overrides, whole, steps, time.monotonic() - began)


def test_killed_at_every_step(rich, tmp_path, monkeypatch):
    """Each run is killed six times, with and without workers."""
    steps = [step + 1 for step in rich.spread(60)]
    for start in range(len(steps) // 6):
        runs = tmp_path / f"from{start}"
        for count, step in enumerate(steps[start :: len(steps) // 6]):
            with monkeypatch.context() as patched:
                die_at(patched, step)
                assert in_child(partial(run, rich.recipe(workers=2 * (count % 2)), runs)) == -signal.SIGKILL, step
        rich.ends_the_same(runs)


def die_at(monkeypatch, step):
    def dies(recipe, at):
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)

    at_each_step(monkeypatch, before=dies)


def test_killed_at_random_moments(rich, tmp_path):
    """Up to four times in each run, at any place: also in a save, an evaluation or a start."""
    died, span = 0, rich.seconds / 2
    for seed in itertools.count():
        draw, runs = random.Random(seed), tmp_path / f"seed{seed}"
        for _ in range(4):
            child = forked(partial(run, rich.recipe(workers=draw.choice([0, 0, 2])), runs))
            time.sleep(draw.uniform(0, span))
            os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status == 0:  # it finished before the kill
                span *= 0.9
                break
            assert status == -signal.SIGKILL, seed
            died += 1
        rich.ends_the_same(runs)
        if died >= rich.of(200):
            break
        assert seed < 10 * rich.of(200), "most runs end before they are killed"


def test_signals_at_random_moments(rich, tmp_path):
    """The status is 128 + the signal's number, or 0 where the run was done; up to four signals in each run."""
    stopped, span = 0, rich.seconds / 2
    for seed in itertools.count():
        draw, runs = random.Random(seed), tmp_path / f"seed{seed}"
        for _ in range(4):
            number = draw.choice(SIGNALS)
            child = listening(rich.arguments(workers=draw.choice([0, 0, 2])), rich.path, runs)
            time.sleep(draw.uniform(0, span))
            os.kill(child, number)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status in (0, -number):  # it finished before the signal: nothing handles it any more
                assert is_finished(next(runs.glob("student-*/seed0"))), seed
                span *= 0.9
                break
            assert status == 128 + number, seed
            stopped += 1
        rich.ends_the_same(runs)
        if stopped >= rich.of(200):
            break
        assert seed < 10 * rich.of(200), "most runs end before they are signalled"


def listening(overrides, path, runs):
    """`kd run` in a process that handles signals already; its id."""
    reader, writer = os.pipe()
    ordinary = run_module.stopping

    @contextlib.contextmanager
    def stopping():
        with ordinary() as stop:
            os.write(writer, b"!")
            yield stop

    def work():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
        run_module.stopping = stopping
        plan.plan = lambda *_, **__: []
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(cli.main(["run", str(path), *overrides, "--trust", "--runs", str(runs)]))

    child = forked(work)
    os.close(writer)
    assert os.read(reader, 1) == b"!"
    os.close(reader)
    return child


@pytest.mark.parametrize("where", ["loss", "gradient", "teacher", "student"])
def test_nan_anywhere_leaves_the_state_before_it(rich, tmp_path, monkeypatch, where):
    """At one step after another in one run: a passing fault, after which the same command resumes."""
    runs = tmp_path / "runs"
    for step in rich.spread(50):
        with monkeypatch.context() as patched:
            poison(patched, where, step)
            with pytest.raises(DivergedError, match=f"step {step + 1}: "):
                run(rich.recipe(), runs)
        saved = [read_checkpoint(path) for path in runs.glob("student-*/seed0/checkpoints/step-*.pt")]
        assert step // 5 * 5 <= max(state["step"] for state in saved) <= step
        assert not any(has_nan(state) for state in saved)
    rich.ends_the_same(runs)


def has_nan(state):
    """Whether there is a NaN anywhere in nested dicts and lists."""
    if isinstance(state, torch.Tensor):
        return bool(state.isnan().any())
    if isinstance(state, dict | list | tuple):
        return any(map(has_nan, state.values() if isinstance(state, dict) else state))
    return state != state


def test_all_damaged_checkpoints_are_detected(rich, tmp_path):
    shutil.copytree(rich.whole / "checkpoints", tmp_path / "checkpoints")
    checkpoints = Checkpoints(tmp_path / "checkpoints", "/".join((rich.whole.parent.name[-8:], rich.whole.name)))
    newest, before = sorted(checkpoints.folder.glob("step-*.pt"), key=lambda path: -int(path.name.split("-")[1]))[:2]
    whole, other = newest.read_bytes(), before.read_bytes()
    right = read_checkpoint(before)["step"]
    for seed in range(rich.of(1000)):
        newest.write_bytes(damaged(whole, other, random.Random(seed)))
        state, (complaint,) = checkpoints.newest()
        assert state["step"] == right, seed
        assert complaint.startswith(f"{newest}: damaged (its SHA-256 begins with "), seed


def damaged(data, other, draw):
    """A bit is flipped, the end cut off, a page zero, or it is another checkpoint."""
    result = bytearray(data)
    kind = draw.choices(["flip", "cut", "zero", "swap"], [4, 3, 2, 1])[0]
    if kind == "flip":
        result[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del result[draw.randrange(len(data)) :]
    elif kind == "zero":
        begin = draw.randrange(len(data) - 4096)
        result[begin : begin + 4096] = bytes(4096)
    else:
        result[:] = other
    return damaged(data, other, draw) if result == data else result  # zeros where zeros were


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A recipe without a teacher, eight steps and eight checkpoints long, and its undisturbed run."""
    folder = tmp_path_factory.mktemp("plain")
    recipe = baseline_of(read(write_recipes(folder), "train.save_every=1"))
    (whole,), _ = run(recipe, folder / "runs")
    return recipe, whole


@pytest.mark.parametrize("writes", tenth(60))
@pytest.mark.parametrize("lasting", [False, True], ids=["for-a-moment", "for-good"])
def test_a_disk_that_is_full_at_the_nth_write(plain, tmp_path, monkeypatch, lasting, writes):
    """Valid files stay valid; the run ends with the same weights, or with a StorageError and resumes to them."""
    recipe, whole = plain
    for number in range(60 // writes, 61, 60 // writes):
        runs, seen = tmp_path / f"{number}", {}

        def full(count, number=number, runs=runs, seen=seen):
            seen |= {path: path.read_bytes() for path in runs.rglob("checkpoints/step-*.pt")}
            if count == number or (lasting and count > number):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written = count_writes(patched, full)
            with contextlib.suppress(StorageError):
                run(recipe, runs)
        assert len(written) >= number
        assert all(path.read_bytes() == data for path, data in seen.items() if path.exists()), number
        assert len(list(runs.rglob("checkpoints/step-*.pt"))) >= min(len(seen), 2), number
        assert not list(runs.rglob(".tmp-*")), number
        (run_dir,), _ = run(recipe, runs)
        assert is_finished(run_dir)
        assert equal(weights(run_dir), weights(whole)), number
        if not lasting:
            assert (run_dir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes(), number


@pytest.mark.parametrize("count", tenth(30))
@pytest.mark.parametrize("sink", ["console", "TensorBoard"])
def test_a_sink_that_fails_changes_nothing(tmp_path, monkeypatch, sink, count):
    """The console is not read any more, or TensorBoard's disk is full, from one step on."""
    path = write_recipes(tmp_path)
    recipe = baseline_of(read(path, "train.steps=30", "train.evaluate_every=0", "log.tensorboard=true"))
    (whole,), _ = run(recipe, tmp_path / "whole")
    for step in range(30 // count, 31, 30 // count):
        with monkeypatch.context() as patched, warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            (console_breaks if sink == "console" else tensorboard_breaks)(patched, step)
            (run_dir,) = run_module.run_recipe(recipe, runs=tmp_path / f"{step}")
        assert sum(str(warning.message).startswith(f"{sink}: stopped (") for warning in warned) == 1, step
        assert equal(weights(run_dir), weights(whole)), step
        assert (run_dir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes(), step


def console_breaks(monkeypatch, step):
    """`kd run … | head`: from one step on, standard output is a pipe without a reader."""
    ordinary = terminal.Terminal.scalars
    reader, writer = os.pipe()
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w", buffering=1))

    def scalars(self, at, values):
        self._printed = 0.0  # long ago: every report is a line
        if at == step:
            with contextlib.suppress(OSError):
                os.close(reader)
        ordinary(self, at, values)

    monkeypatch.setattr(terminal.Terminal, "scalars", scalars)


def tensorboard_breaks(monkeypatch, step):
    full, ordinary, write = [], tensorboard.TensorBoard.scalars, RecordWriter.write

    def scalars(self, at, values):
        full.extend([at] if at == step else [])
        ordinary(self, at, values)

    def writes(self, data):
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, data)

    monkeypatch.setattr(tensorboard.TensorBoard, "scalars", scalars)
    monkeypatch.setattr(RecordWriter, "write", writes)


@pytest.mark.parametrize("streams", [[1], [1, 2]], ids=["kd run | head", "kd run 2>&1 | head"])
def test_a_run_whose_output_is_not_read_continues(plain, tmp_path, streams):
    recipe, whole = plain

    def unread():
        plan.plan = lambda *_, **__: []
        reader, writer = os.pipe()
        os.close(reader)
        for stream in streams:
            os.dup2(writer, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        arguments = ["teacher=null", "distill=null", "train.save_every=1", "--trust", "--runs", str(tmp_path)]
        assert cli.main(["run", str(recipe.file), *arguments]) == 0
        sys.stdout.flush()  # as Python does when it ends

    assert in_child(unread) == 0
    (run_dir,) = tmp_path.glob("*/seed0")
    assert equal(weights(run_dir), weights(whole))


@pytest.mark.parametrize("starts", tenth(100))
def test_simultaneous_starts_have_one_winner(plain, tmp_path, monkeypatch, starts):
    """And when the winner is killed, the next start resumes immediately."""
    recipe, _ = plain
    (reader, writer), (gate, opener) = os.pipe(), os.pipe()

    def trains(*_, **__):
        os.write(writer, b"w")
        os.read(gate, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    def starts_too():
        os.close(opener)
        monkeypatch.setattr(run_module, "train_run", trains)
        try:
            run(recipe, tmp_path / "runs")
        except LockedError:
            os.write(writer, b"l")
            os._exit(7)

    children = [forked(starts_too) for _ in range(starts)]
    outcomes = b"".join(os.read(reader, 1) for _ in range(starts))  # all have won or lost before the winner leaves
    os.close(opener)
    statuses = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert sorted(outcomes) == sorted(b"l" * (starts - 1) + b"w")
    assert statuses == [-signal.SIGKILL] + [7] * (starts - 1)
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    assert is_finished(run_dir)
