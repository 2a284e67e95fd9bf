"""What the numbers of a run mean, against clocks and sums by hand."""

import itertools
import os
from types import SimpleNamespace

import pytest
from ranks import kd, start, statuses, the_run, write_plain
from steps import at_each_step
from tiny import cut_at, read, run, write_recipes

from kd.compare.gathering.gather import gather
from kd.diagnose.plan import plan
from kd.recipe import baseline_of
from kd.runs import read_metrics, read_result
from kd.train import one_run
from kd.train.between_steps import checkpoint
from kd.train.between_steps.evaluation import Evaluations
from kd.train.session import session


def alone(folder, *overrides):
    return baseline_of(read(write_recipes(folder), *overrides))


@pytest.fixture
def clock(monkeypatch):
    """The clock of runs, which a test turns; every step takes 10 s."""
    now, made = [1000.0], one_run._watch
    stopped = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("kd.train.between_steps.watch.time", stopped)
    monkeypatch.setattr("kd.train.between_steps.reports.time", stopped)

    def watch(*arguments):
        watch = made(*arguments)
        watch.began = now[0]
        return watch

    def turn(recipe, step):
        now[0] += 10

    monkeypatch.setattr(one_run, "_watch", watch)

    at_each_step(monkeypatch, before=turn)
    return now


def test_seconds_are_those_that_led_to_the_result_over_all_sessions(tmp_path, clock):
    """What a kill costs is not in them: the steps after the last checkpoint are trained again."""
    recipe = alone(tmp_path, "train.evaluate_every=0", "train.save_every=2")
    cut_at(5, recipe, tmp_path / "runs")
    clock[0] += 10**6  # until the command is repeated
    (run_dir,), lines = run(recipe, tmp_path / "runs")
    assert "  resumes at step 4 of 8" in lines
    result = read_result(run_dir)
    assert result.seconds == pytest.approx(80)
    assert result.images_per_second == pytest.approx(8 * 4 / 80)


def test_a_run_that_ends_early_counts_the_steps_that_it_took(tmp_path, clock, monkeypatch):
    scores = itertools.chain([0.5, 0.4, 0.3], itertools.repeat(0.9))
    ordinary = Evaluations._score_driven

    def driven(self, run):
        parts = ordinary(self, run)
        return {
            name: SimpleNamespace(
                update=lambda miou, part=part: part.update(next(scores)),
                state_dict=part.state_dict,
                load_state_dict=part.load_state_dict,
            )
            for name, part in parts.items()
        }

    monkeypatch.setattr(Evaluations, "_score_driven", driven)
    recipe = alone(tmp_path, "train.evaluate_every=1", "train.patience=2")
    (run_dir,), lines = run(recipe, tmp_path / "runs")
    assert "  ended at step 3 of 8: no better mIoU in 2 evaluations" in lines
    result = read_result(run_dir)
    assert (result.seconds, result.images_per_second) == (pytest.approx(30), pytest.approx(3 * 4 / 30))


def test_the_speed_is_that_of_the_steps_alone(tmp_path, clock, monkeypatch):
    """Evaluations and checkpoints, 100 s each, are not in it, though they follow every report."""
    evaluate, save = Evaluations.evaluate, checkpoint.Checkpoints.save

    def slowly(work):
        def slow(*arguments, **options):
            clock[0] += 100
            return work(*arguments, **options)

        return slow

    monkeypatch.setattr(Evaluations, "evaluate", slowly(evaluate))
    monkeypatch.setattr(checkpoint.Checkpoints, "save", slowly(save))
    seen = []
    monkeypatch.setattr(
        "kd.train.sinks.log_file.LogFile.scalars", lambda self, step, values: seen.append((step, dict(values)))
    )
    options = ("log.every=2", "train.evaluate_every=2", "train.save_every=1", "train.steps=6")
    run(alone(tmp_path, *options), tmp_path / "runs")
    speeds = [values["speed/images_per_second"] for _, values in seen if "speed/images_per_second" in values]
    assert speeds == pytest.approx([4 / 10] * len(speeds))
    assert len(speeds) >= 2


WEIGHT = "distill.kl.weight={use: kd.schedules.linear, args: {start: 0.0, end: 4.0, over: 4}}"


def test_the_total_is_the_weighted_sum_and_a_report_the_mean_of_its_steps(tmp_path):
    one = read(write_recipes(tmp_path), WEIGHT, "train.evaluate_every=0", "train.accumulate=2")
    (every,), _ = run(one, tmp_path / "one")
    (third,), _ = run(read(one.file, *one.overrides, "log.every=3"), tmp_path / "three")
    steps = [line for line in read_metrics(every) if "loss/total" in line]
    for line in steps:
        weight = min(line["step"] - 1, 4)  # of step 0 … 7
        total = line["loss/supervised"] + weight * line["loss/kl"] + line["loss/hint"]
        assert line["loss/total"] == pytest.approx(total, rel=1e-5)
    reports = [line for line in read_metrics(third) if "loss/total" in line]
    assert [line["step"] for line in reports] == [3, 6, 8]
    for line, part in zip(reports, (steps[0:3], steps[3:6], steps[6:8]), strict=True):
        for name in ("loss/total", "loss/kl", "gradient_norm"):
            assert line[name] == pytest.approx(sum(step[name] for step in part) / len(part), rel=1e-5), name
        assert line["lr"] == part[-1]["lr"]  # of the last step


def test_the_norm_of_the_gradient_is_that_before_clipping(tmp_path):
    plain, clipped = (alone(tmp_path, "train.steps=1", *more) for more in ([], ["train.clip_norm=1e-4"]))
    norms = [read_metrics(run(recipe, tmp_path / "runs")[0][0])[0]["gradient_norm"] for recipe in (plain, clipped)]
    assert norms[0] == norms[1] > 1e-2


@pytest.mark.slow
def test_a_mean_over_the_steps_since_the_last_report_survives_a_stop_of_two_processes(tmp_path, monkeypatch):
    """Each process has sums of its own images."""
    options = ("teacher=null", "distill=null", "log.every=4", "train.save_every=3", "train.evaluate_every=0")
    write_plain(tmp_path / "whole")
    assert statuses(start(2, kd(tmp_path / "whole", *options))) == [0, 0]
    write_plain(tmp_path / "cut")
    with monkeypatch.context() as patched:
        at_each_step(patched, after=lambda recipe, step: step == 3 and os._exit(9))
        assert statuses(start(2, kd(tmp_path / "cut", *options))) == [9, 9]
    assert statuses(start(2, kd(tmp_path / "cut", *options))) == [0, 0]
    files = [the_run(tmp_path / name) / "metrics.jsonl" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_parameters_are_the_networks_own_frozen_ones_too(tmp_path):
    recipe = read(
        write_recipes(tmp_path),
        "train.steps=1",
        "train.evaluate_every=0",
        "student.args.frozen=true",
        "distill.hint=null",
    )
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    result = read_result(run_dir)

    def of(channels):  # convolution of 3 × 3 × 3, BatchNorm, head of two classes
        return channels * 27 + channels + 2 * channels + 2 * channels + 2

    assert (result.parameters, result.teacher.parameters) == (of(4), of(8))
    entries = {entry.role: entry.parameters for entry in gather([recipe], runs=tmp_path / "runs").entries}
    assert entries == {"teacher": of(8), "student": of(4)}


@pytest.mark.parametrize("every", ["4", pytest.param("30%", marks=pytest.mark.slow)])
def test_the_plan_counts_evaluations_epochs_and_bytes_as_the_run_has_them(tmp_path, monkeypatch, every):
    """A moving average makes a checkpoint larger; at no time is more on the disk."""
    options = ("train.ema=0.9", f"train.evaluate_every={every}", "train.save_every=1", "train.accumulate=2")
    recipe = alone(tmp_path, *options, "optimizer={use: torch.optim.AdamW, args: {lr: 0.01}}", "train.steps=9")
    with session(recipe, runs=tmp_path / "runs", quiet=True) as opened:
        (job,) = plan(recipe, opened)
    ordinary, sizes, used = checkpoint.write_atomic, [], []

    def write(path, data, **options):
        ordinary(path, data, **options)
        sizes.append(path.stat().st_size)
        used.append(sum(file.stat().st_size for file in path.parent.glob("*.pt")))

    monkeypatch.setattr(checkpoint, "write_atomic", write)
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    evaluated = [line["step"] for line in read_metrics(run_dir) if "val/miou" in line]
    assert job.evaluations == len(evaluated)
    assert job.steps * 4 / job.images == 9 * 4 / 12
    assert max(sizes) == pytest.approx(job.checkpoint, rel=0.05)
    assert job.checkpoint > 2 * job.weights
    assert job.most / 2 < max(used) <= job.most
    kept = [file for file in run_dir.rglob("*") if file.suffix in (".pt", ".safetensors")]
    assert sum(file.stat().st_size for file in kept) <= job.kept * 1.05
