"""Losses and gradients that are not finite, and saves that fail."""

import errno
import math
import os
import re
import warnings
from types import SimpleNamespace

import pytest
import torch
from poison import poison
from ranks import start, statuses
from tiny import equal, read, run, weights, write_recipes

from kd import distributed
from kd.errors import DivergedError, RecipeError, StorageError
from kd.recipe import baseline_of
from kd.runs import read_metrics
from kd.train import step as train
from kd.train.auto.settling import SEARCHES
from kd.train.between_steps import checkpoint
from kd.train.between_steps.checkpoint import Checkpoints
from kd.train.between_steps.guard import Guard
from kd.train.readback import StepNumbers


def recipe_of(folder, *overrides):
    return read(write_recipes(folder), *overrides)


def checkpoints(run_dir):
    return [torch.load(path, weights_only=True) for path in sorted((run_dir / "checkpoints").glob("step-*.pt"))]


def no_nan(state):
    return not any(value.isnan().any() for value in state["student"].values() if value.is_floating_point())


@pytest.mark.parametrize("where", ["loss", "gradient", "teacher", "student"])
def test_it_stops_and_names_step_term_and_images(tmp_path, monkeypatch, where):
    recipe = recipe_of(tmp_path)
    run(recipe.teacher_recipe, tmp_path / "runs")
    poison(monkeypatch, where, 5)
    with pytest.raises(DivergedError) as caught:
        run(recipe, tmp_path / "runs")
    term = {"teacher": "term 'kl' is nan", "student": "term 'supervised' is nan", "gradient": "the gradient's norm"}
    message = str(caught.value)
    assert message.startswith("step 6: ")
    assert term.get(where, "") in message
    assert re.search(r"on images sample \d+, sample \d+, sample \d+, sample \d+; the batch is in ", message)
    assert message.endswith("lower optimizer.args.lr, or set train.clip_norm")
    (file,) = (tmp_path / "runs").rglob("not-finite-step6.pt")
    written = torch.load(file, weights_only=True)
    assert written["batches"][0]["images"].dtype == torch.uint8
    assert len(written["images"][0]) == 4
    saved = checkpoints(file.parent)
    assert max(state["step"] for state in saved) == 4
    assert all(map(no_nan, saved))


@pytest.mark.parametrize("where", ["loss", "gradient", "student"])
def test_a_skipped_step_leaves_no_trace(tmp_path, monkeypatch, where):
    recipe = baseline_of(recipe_of(tmp_path, "train.on_nan=skip", "train.steps=3", "train.save_every=1"))
    poison(monkeypatch, where, 1)
    with pytest.warns(UserWarning, match=r"step 2: .*; skipped \(1 of at most 10\)"):
        (run_dir,), _ = run(recipe, tmp_path / "runs")
    assert equal(*kept(tmp_path, 1, 2))
    assert all(value.isfinite().all() for value in weights(run_dir).values())
    assert {line["not_finite"] for line in read_metrics(run_dir) if line["step"] >= 2 and "lr" in line} == {1}


def kept(folder, *steps):
    """The student's state after each of these steps."""
    return (torch.load(folder / f"kept{step}.pt", weights_only=True)["student"] for step in steps)


@pytest.fixture(autouse=True)
def _keep_every_checkpoint(monkeypatch, tmp_path):
    ordinary = Checkpoints.save

    def save(self, state, *, step, best):
        torch.save(state, tmp_path / f"kept{step}.pt")
        return ordinary(self, state, step=step, best=best)

    monkeypatch.setattr(Checkpoints, "save", save)


def test_restore_goes_back_to_the_last_checkpoint_and_on_with_the_next_images(tmp_path, monkeypatch):
    recipe = baseline_of(recipe_of(tmp_path, "train.on_nan=restore", "train.steps=4", "train.save_every=2"))
    poison(monkeypatch, "student", 3)
    with pytest.warns(UserWarning, match=r"back to the last checkpoint's weights \(1 of at most 10\)"):
        run(recipe, tmp_path / "runs")
    two, four = kept(tmp_path, 2, 4)
    assert equal(two, four)
    keys = [torch.load(tmp_path / f"kept{step}.pt", weights_only=True)["optimizer"]["state"] for step in (2, 4)]
    assert all(torch.equal(keys[0][i]["momentum_buffer"], keys[1][i]["momentum_buffer"]) for i in keys[0])


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (1, "term 'supervised' is nan (supervised nan, total nan), on images sample 1"),
        (
            None,
            "the gradient's norm is nan (supervised 0.5, total 0.5), on images sample 0 and those of 1 other process",
        ),
    ],
    ids=["loss", "gradient"],
)
def test_the_line_names_the_images_of_the_process_whose_loss_is_not_finite(bad, what):
    def work(rank):
        with distributed.joined("cpu"):
            loss = math.nan if rank == bad else 0.5
            batch = SimpleNamespace(keys=torch.tensor([[rank, 0]]))
            numbers = StepNumbers(4, [batch], False, math.nan, [{"supervised": loss, "total": loss}])
            with pytest.raises(DivergedError) as caught:
                Guard().leave_out(numbers)
            assert str(caught.value) == f"step 4: {what}; lower optimizer.args.lr, or set train.clip_norm"
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                Guard("skip", 1).leave_out(numbers)
            lines = [str(line.message) for line in warned]
            assert lines == ([f"step 4: {what}; skipped (1 of at most 1)"] if rank == 0 else [])
        return 0

    assert statuses(start(2, work)) == [0, 0]


def test_steps_beyond_the_limit_are_not_skipped(tmp_path, monkeypatch):
    recipe = baseline_of(recipe_of(tmp_path, "train.on_nan=skip", "train.nan_limit=2"))
    poison(monkeypatch, "loss", *range(1, 8))
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(DivergedError) as caught:
        run(recipe, tmp_path / "runs")
    assert str(caught.value).startswith("step 4: ")
    assert "this is one more than train.nan_limit 2" in str(caught.value)


def test_skipping_survives_a_resume(tmp_path, monkeypatch):
    recipe = baseline_of(recipe_of(tmp_path, "train.on_nan=skip", "train.save_every=2"))
    poison(monkeypatch, "student", 2, 5)
    with pytest.warns(UserWarning, match="skipped"):
        (whole,), _ = run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patched:
        spoilt = train.distill_step
        patched.setattr(train, "distill_step", lambda run, *micro: 1 / 0 if run.step == 7 else spoilt(run, *micro))
        with pytest.raises(ZeroDivisionError), pytest.warns(UserWarning, match="skipped"):
            run(recipe, tmp_path / "cut")
    (cut,), lines = run(recipe, tmp_path / "cut")
    assert "  resumes at step 6 of 8" in lines
    assert equal(weights(cut), weights(whole))
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_nan_in_the_student_is_never_saved(tmp_path, monkeypatch):
    recipe = baseline_of(recipe_of(tmp_path, "train.save_every=1"))
    ordinary = train.distill_step

    def spoilt(run, *micro):
        losses = ordinary(run, *micro)
        if run.step == 3:
            mean = run.student.network.norm.running_mean  # no loss reads it in training mode
            run.optimizer.register_step_post_hook(lambda *_: mean.fill_(float("nan")))
        return losses

    monkeypatch.setattr(train, "distill_step", spoilt)
    with pytest.raises(DivergedError, match="step 4: NaN in the student, not saved; the last checkpoint is good"):
        run(recipe, tmp_path / "runs")
    (run_dir,) = (tmp_path / "runs").glob("*/seed0")
    assert max(state["step"] for state in checkpoints(run_dir)) == 3
    assert all(map(no_nan, checkpoints(run_dir)))


def full_disk_at(monkeypatch, *saves):
    """Let the n-th checkpoint (from 1, the one before the first step) fail as on a full disk."""
    ordinary, count = checkpoint.write_atomic, []

    def write(path, data):
        if path.suffix == ".pt":
            count.append(path)
            if len(count) in saves:
                raise StorageError(f"{path}: cannot be written ({os.strerror(errno.ENOSPC)}); free space")
        ordinary(path, data)

    monkeypatch.setattr(checkpoint, "write_atomic", write)
    return count


def test_a_save_that_fails_is_a_warning_and_the_next_one_tries_again(tmp_path, monkeypatch):
    recipe = baseline_of(recipe_of(tmp_path, "train.evaluate_every=0"))
    (whole,), _ = run(recipe, tmp_path / "whole")
    full_disk_at(monkeypatch, 1, 3)
    again = pytest.warns(UserWarning, match=r"step-0-\w+\.pt: cannot be written")
    with (
        again,
        pytest.warns(UserWarning, match=r"step-4-\w+\.pt: cannot be written \(No space .*; the next save tries again"),
    ):
        (run_dir,), _ = run(recipe, tmp_path / "runs")
    assert equal(weights(run_dir), weights(whole))
    assert sorted(state["step"] for state in checkpoints(run_dir)) == [6, 8]


def test_a_last_save_that_fails_ends_the_run_and_keeps_the_older_checkpoints(tmp_path, monkeypatch):
    recipe = baseline_of(recipe_of(tmp_path, "train.evaluate_every=0"))
    full_disk_at(monkeypatch, 5)
    with pytest.raises(StorageError, match="step-8-"):
        run(recipe, tmp_path / "runs")
    (run_dir,) = (tmp_path / "runs").glob("*/seed0")
    assert sorted(state["step"] for state in checkpoints(run_dir)) == [4, 6]
    assert not (run_dir / "result.json").exists()
    monkeypatch.undo()
    _, lines = run(recipe, tmp_path / "runs")
    assert "  resumes at step 6 of 8" in lines


def test_an_evaluation_whose_checkpoint_could_not_be_saved_is_not_the_best(tmp_path, monkeypatch):
    recipe = baseline_of(recipe_of(tmp_path, "train.select=best", "train.evaluate_every=1", "train.save_every=0"))
    full_disk_at(monkeypatch, 2)
    with pytest.warns(UserWarning, match="the next save tries again"):
        (run_dir,), _ = run(recipe, tmp_path / "runs")
    final = next(line["final/miou"] for line in read_metrics(run_dir) if "final/miou" in line)
    later = [line["val/miou"] for line in read_metrics(run_dir) if "val/miou" in line and line["step"] > 1]
    assert final == pytest.approx(max(later), abs=1e-12)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, torch.AcceleratorError])
def test_out_of_memory_names_batch_size_and_accumulation(tmp_path, monkeypatch, error):
    recipe = baseline_of(recipe_of(tmp_path))

    def full(run, *micro):
        raise error("CUDA error: out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(train, "distill_step", full)
    with pytest.raises(RecipeError) as caught:
        run(recipe, tmp_path / "runs")
    assert str(caught.value) == (
        f"{tmp_path}/student.yaml:10:19: out of GPU memory with train.batch_size 4 in micro-batches of 4 "
        "(train.accumulate 1, 1 process); set train.accumulate=2 (CUDA error: out of memory. Tried to allocate 2.00 "
        "GiB)"
    )


@pytest.mark.parametrize(
    ("overrides", "place", "found"),
    [
        (
            [],
            "{}/teacher.yaml:10:19",
            "4 in micro-batches of 4 (train.accumulate 1, 1 process); set train.accumulate=2",
        ),
        (
            ["teacher=null", "distill=null", "train.accumulate=auto", "train.batch_size=8"],
            "<train.batch_size=8>",
            "8 in micro-batches of 4 (train.accumulate 2, 1 process); set train.accumulate=4",
        ),
    ],
    ids=["teacher", "found"],
)
def test_out_of_memory_names_the_recipe_that_trains_with_what_was_found(tmp_path, monkeypatch, overrides, place, found):
    def full(run, *micro):
        raise torch.OutOfMemoryError("no more")

    recipe = recipe_of(tmp_path, *overrides)
    monkeypatch.setattr(train, "distill_step", full)
    monkeypatch.setitem(SEARCHES, "accumulate", lambda parts: (2, "found"))
    with pytest.raises(RecipeError) as caught:
        run(recipe, tmp_path / "runs")
    where = place.format(tmp_path)
    assert str(caught.value) == f"{where}: out of GPU memory with train.batch_size {found} (no more)"
