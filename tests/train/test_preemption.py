"""Signals at any time: the run stops soon, loses nothing, and in the end equals an uninterrupted run."""

import math
import os
import re
import signal

import pytest
from tiny import cut_at, equal, read, run, weights, write_recipes

from kd.errors import StoppedError
from kd.recipe import baseline_of
from kd.runs import read_metrics, read_result
from kd.scoring import predict
from kd.train import loop, one_run, prepared, signals
from kd.train.between_steps import evaluation as scoring
from kd.train.signals import Stop


def kill_once(before, number=signal.SIGUSR1, when=lambda: True):
    """`before`, with a signal to this process before its first call for which `when` is true."""
    sent = []

    def killing(*arguments, **options):
        if not sent and when():
            sent.append(os.kill(os.getpid(), number))
        return before(*arguments, **options)

    return killing


@pytest.fixture
def recipe(tmp_path):
    return baseline_of(read(write_recipes(tmp_path)))


def same(cut, whole):
    assert equal(weights(cut), weights(whole))
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert read_result(cut).splits == read_result(whole).splits


def test_a_signal_ends_an_evaluation_which_is_repeated_after_the_resume(tmp_path, monkeypatch, recipe):
    (whole,), _ = run(recipe, tmp_path / "whole")
    calls = []

    def counted(*arguments, **options):
        calls.append(1)
        return ordinary(*arguments, **options)

    ordinary = scoring.score_beside
    with monkeypatch.context() as patched:
        patched.setattr("kd.scoring.counting.predict", kill_once(predict))
        patched.setattr(scoring, "score_beside", counted)
        with pytest.raises(StoppedError, match="SIGUSR1"):
            run(recipe, tmp_path / "cut")
    assert len(calls) == 1
    (cut,) = (tmp_path / "cut").glob("*/seed0")
    assert not [line for line in read_metrics(cut) if "val/miou" in line]  # step 4's is cut short
    _, lines = run(recipe, tmp_path / "cut")
    assert "  resumes at step 4 of 8" in lines
    same(cut, whole)


def test_a_kill_after_an_evaluation_that_a_signal_had_stopped_does_not_repeat_it(tmp_path, monkeypatch):
    overrides = ("train.evaluate_every=2", "train.save_every=0", "train.steps=6", "optimizer.args.lr=1e-9")
    recipe = baseline_of(read(write_recipes(tmp_path), *overrides))
    (whole,), _ = run(recipe, tmp_path / "whole")
    first, second, _ = (line["val/miou"] for line in read_metrics(whole) if "val/miou" in line)
    assert second <= first  # only the best one is saved without a due checkpoint
    with monkeypatch.context() as patched:
        begun = kill_once(predict, when=lambda: list((tmp_path / "cut").rglob("step-2-*.pt")))
        patched.setattr("kd.scoring.counting.predict", begun)
        with pytest.raises(StoppedError):
            run(recipe, tmp_path / "cut")
    cut_at(5, recipe, tmp_path / "cut")
    (cut,), lines = run(recipe, tmp_path / "cut")
    assert "  resumes at step 4 of 6" in lines
    same(cut, whole)


def test_a_signal_in_the_last_evaluation_loses_nothing_either(tmp_path, monkeypatch):
    recipe = baseline_of(read(write_recipes(tmp_path), "train.evaluate_every=0", "train.save_every=0"))
    (whole,), _ = run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("kd.scoring.counting.predict", kill_once(predict))
        with pytest.raises(StoppedError):
            run(recipe, tmp_path / "cut")
    (cut,), lines = run(recipe, tmp_path / "cut")
    assert "  resumes at step 8 of 8" in lines
    same(cut, whole)


def test_a_signal_while_batchnorm_is_reestimated(tmp_path, monkeypatch):
    recipe = baseline_of(read(write_recipes(tmp_path), "train.reestimate_batchnorm=3"))
    (whole,), _ = run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(one_run, "reestimate_batchnorm", kill_once(one_run.reestimate_batchnorm))
        with pytest.raises(StoppedError):
            run(recipe, tmp_path / "cut")
    (cut,), _ = run(recipe, tmp_path / "cut")
    same(cut, whole)


def test_no_run_begins_after_a_signal(tmp_path, monkeypatch, recipe):
    monkeypatch.setattr(prepared, "open_parts", kill_once(prepared.open_parts))
    two = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seeds": (0, 1)})})
    with pytest.raises(StoppedError):
        run(two, tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*/seed1"))


def test_a_stopped_run_does_not_wait_long_for_data(tmp_path, monkeypatch):
    folder = tmp_path / "r"
    path = write_recipes(folder)
    nets = folder / "nets.py"
    slow = "        if self.offset == 0 and key[1] >= 1:\n            import time\n            time.sleep(3600)\n"
    nets.write_text(nets.read_text().replace("        generator = torch.Gen", slow + "        generator = torch.Gen"))
    recipe = baseline_of(read(path, "data.workers=1", "train.save_every=1"))
    monkeypatch.setattr(signals, "PATIENCE", 0.5)
    saved = kill_once(loop.save, when=lambda: len(list(folder.rglob("*.pt"))) >= 2)
    monkeypatch.setattr(loop, "save", saved)
    monkeypatch.setattr("kd.train.signals.Stop.agreed", lambda self: None)  # only the wait sees the signal
    with pytest.raises(StoppedError):
        run(recipe, folder / "runs")  # or the test takes longer than it may
    assert list(folder.rglob("step-*.pt"))


def test_a_slow_save_is_reported_at_the_start(tmp_path, monkeypatch, recipe):
    monkeypatch.setattr(one_run, "SLOW_SAVE", 0.0)
    _, lines = run(recipe, tmp_path / "runs")
    (line,) = [line for line in lines if "a checkpoint takes" in line]
    assert re.sub(r"\d+ (s|min) to write", "0 s to write", line) == (
        "  a checkpoint takes 0 s to write, and torchrun kills processes 30 s after it asks them to stop: ask early "
        "(Slurm: --signal=B:USR1@120), or choose a faster disk with --runs DIR"
    )
    assert lines.index(line) < len(lines) - 1
    monkeypatch.setattr(one_run, "SLOW_SAVE", math.inf)
    _, lines = run(recipe, tmp_path / "other")
    assert not [line for line in lines if "a checkpoint takes" in line]


def test_a_signal_that_torchrun_forwards_is_not_a_second_signal(monkeypatch):
    monkeypatch.setattr(signals.distributed, "world", lambda: 2)
    stop = Stop()
    monkeypatch.setattr(signals, "ECHO", math.inf)
    stop.handle(signal.SIGTERM, None)
    stop.handle(signal.SIGTERM, None)  # later, a second signal would end this process
    assert stop.signal == signal.SIGTERM
