import hashlib
import json
import os
import signal
from functools import partial

import pytest
import torch
from manifests import unfinish
from steps import at_each_step
from tiny import equal, in_child, read, run, weights, write_recipes

from kd.errors import NoCheckpointError, RecipeError, StoppedError, StorageError
from kd.inputs import read_inputs, write_inputs
from kd.recipe import baseline_of
from kd.runs import is_finished, read_metrics, read_result, run_directory
from kd.train.between_steps import evaluation
from kd.train.between_steps.checkpoint import read_checkpoint
from kd.train.provenance.reuse import move_aside


def test_the_teacher_first_then_the_seeds_then_the_baseline(tmp_path):
    recipe = read(write_recipes(tmp_path), "train.seeds=[0, 1]")
    (first, second, baseline, baseline_two), lines = run(recipe, tmp_path / "runs", baseline=True)
    assert [d.name for d in (first, second, baseline, baseline_two)] == ["seed0", "seed1", "seed0", "seed1"]
    result = read_result(first)
    assert (result.role, read_result(baseline).role) == ("student", "baseline")
    assert result.baseline == baseline.parent.name
    teacher = run_directory(recipe.teacher_recipe, tmp_path / "runs", 0)
    assert result.teacher.run == f"{teacher.parent.name}/seed0"
    assert read_result(teacher).role == "teacher"
    assert result.teacher.splits == read_result(teacher).splits  # scored by the same code on the same images
    assert sum("nets.py:Net, distilled" in line for line in lines) == 2
    assert (first / "recipe.yaml").is_file()
    assert json.loads((first / "environment.json").read_text())["in_channels"] == 3
    # the same command again has nothing to do
    run_dirs, lines = run(recipe, tmp_path / "runs", baseline=True)
    assert run_dirs == [first, second, baseline, baseline_two]
    assert all(": finished (val mIoU " in line for line in lines)


def test_student_and_baseline_start_from_the_same_weights_and_see_the_same_images(tmp_path):
    recipe = read(write_recipes(tmp_path), "distill.kl.weight=0", "distill.hint.weight=0")
    (student, baseline), _ = run(recipe, tmp_path / "runs", baseline=True)
    assert equal(weights(student), weights(baseline))


def test_a_student_needs_nothing_of_its_teacher(tmp_path):
    recipe = read(write_recipes(tmp_path))
    (student,), _ = run(recipe, tmp_path / "runs")
    assert not any(key.startswith(("adapters", "teacher", "losses")) for key in weights(student))


def test_a_mistake_in_the_student_is_found_before_the_teacher_trains(tmp_path):
    recipe = read(write_recipes(tmp_path), "distill.hint.at.teacher=lo")
    with pytest.raises(RecipeError, match="the teacher: tap 'lo': no such tap or module"):
        run(recipe, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_run_that_is_killed_repeatedly_ends_like_an_uninterrupted_run(tmp_path, monkeypatch):
    recipe = read(write_recipes(tmp_path))
    (whole,), _ = run(recipe, tmp_path / "whole")

    def die(step):
        def dies(recipe, at):
            if at == step and recipe.stem == "student":
                os.kill(os.getpid(), signal.SIGKILL)

        at_each_step(monkeypatch, after=dies)
        run(recipe, tmp_path / "cut")

    for step in (1, 3, 4, 7):
        assert in_child(partial(die, step)) == -signal.SIGKILL
    (resumed,), lines = run(recipe, tmp_path / "cut")
    assert "  resumes at step 6 of 8" in lines
    assert equal(weights(resumed), weights(whole))
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert read_result(resumed).splits == read_result(whole).splits


def test_a_signal_saves_and_the_next_call_resumes(tmp_path, monkeypatch):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    (whole,), _ = run(recipe, tmp_path / "whole")

    def signalled(recipe, at):
        if at == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        at_each_step(patched, before=signalled)
        with pytest.raises(StoppedError, match="stopped by SIGTERM; the same command resumes the run"):
            run(recipe, tmp_path / "cut")
    (resumed,), lines = run(recipe, tmp_path / "cut")
    assert "  resumes at step 3 of 8" in lines
    assert equal(weights(resumed), weights(whole))


def test_fresh_moves_the_old_directory_aside(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    (first,), _ = run(recipe, tmp_path / "runs")
    (again,), lines = run(recipe, tmp_path / "runs", fresh=True)
    assert again == first
    assert lines[0].startswith(f"{first}: moved to {first}-before-")
    assert len(list(first.parent.iterdir())) == 2


def test_fresh_trains_a_teacher_again_whose_checkpoints_are_damaged(tmp_path, monkeypatch):
    recipe = read(write_recipes(tmp_path))
    teacher = run_directory(recipe.teacher_recipe, tmp_path / "runs", 0)

    def signalled(recipe, at):
        if at == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        at_each_step(patched, before=signalled)
        with pytest.raises(StoppedError):
            run(recipe, tmp_path / "runs")
    for file in (teacher / "checkpoints").glob("step-*.pt"):
        file.write_bytes(b"")
    with pytest.raises(NoCheckpointError, match="start over with --fresh"):
        run(recipe, tmp_path / "runs")
    run(recipe, tmp_path / "runs", fresh=True)
    assert is_finished(teacher)
    assert len(list(teacher.parent.glob("seed0-before-*"))) == 1


def test_runs_that_are_moved_aside_in_one_second_have_names_of_their_own(tmp_path, monkeypatch):
    times, slept = iter(["20250102-030405"] * 3 + ["20250102-030406"]), []
    monkeypatch.setattr("time.strftime", lambda form: next(times))
    monkeypatch.setattr("time.sleep", slept.append)
    for number in range(2):
        (tmp_path / "seed0").mkdir()
        (tmp_path / "seed0" / f"file{number}").touch()
        move_aside(tmp_path / "seed0")
    assert (tmp_path / "seed0-before-20250102-030405/file0").exists()
    assert (tmp_path / "seed0-before-20250102-030406/file1").exists()
    assert len(slept) == 2


def test_select_best_takes_the_best_evaluation(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path), "train.select=best", "train.evaluate_every=1"))
    (best,), _ = run(recipe, tmp_path / "runs")
    scores = [line["val/miou"] for line in read_metrics(best) if "val/miou" in line]
    final = next(line["final/miou"] for line in read_metrics(best) if "final/miou" in line)
    assert read_result(best).select == "best"
    assert final == pytest.approx(max(scores), abs=1e-12)


def test_batchnorm_is_reestimated_if_the_recipe_sets_it(tmp_path):
    (plain,), _ = run(baseline_of(read(write_recipes(tmp_path))), tmp_path / "runs")
    overrides = ["train.reestimate_batchnorm=2"]
    (reestimated,), _ = run(baseline_of(read(tmp_path / "student.yaml", *overrides)), tmp_path / "runs")
    before, after = weights(plain), weights(reestimated)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    unfinish(run_dir)
    other = baseline_of(read(tmp_path / "student.yaml", "student.args.channels=6"))
    moved = run_directory(other, tmp_path / "runs", 0)
    inputs = read_inputs(run_dir).model_copy(update={"id": None, "seed": None})  # as kd 0.5 wrote them
    os.rename(run_dir.parent, moved.parent)
    write_inputs(moved, inputs)
    with pytest.raises(NoCheckpointError, match=f"step-6-.*: of run {run_dir.parent.name[-8:]}/seed0, not of run "):
        run(other, tmp_path / "runs")
    for path in (moved / "checkpoints").glob("step-*.pt"):  # as kd 0.2 wrote them, without the run
        state = read_checkpoint(path)
        path.unlink()
        torch.save({name: value for name, value in state.items() if name != "run"}, moved / "plain")
        digest = hashlib.sha256((moved / "plain").read_bytes()).hexdigest()
        os.rename(moved / "plain", path.with_name(f"step-{state['step']}-{digest[:8]}.pt"))
    with pytest.raises(NoCheckpointError) as caught:
        run(other, tmp_path / "runs")
    assert "checkpoints: does not fit this recipe (" in str(caught.value)
    assert "size mismatch for network.conv.weight" in str(caught.value)
    assert str(caught.value).endswith("; use --fresh")
    assert "\n" not in str(caught.value)


def test_a_directory_that_cannot_be_written_is_reported_in_one_line(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    (tmp_path / "runs").write_text("a file, not a folder")
    with pytest.raises(StorageError, match=r"seed0: cannot be written \(Not a directory\); choose"):
        run(recipe, tmp_path / "runs")


def test_images_are_scored_as_the_recipe_sets_it(tmp_path, monkeypatch):
    calls, ordinary = [], evaluation.score_beside
    monkeypatch.setattr(
        evaluation, "score_beside", lambda *a, **k: calls.append((k["size"], k["how"])) or ordinary(*a, **k)
    )
    recipe = read(
        write_recipes(tmp_path), "evaluate={size: [48, 64], window: [32, 32], scales: [1.0, 1.5], flip: true}"
    )
    baseline = baseline_of(recipe)
    run(baseline, tmp_path / "runs")
    assert set(calls) == {((48, 64), baseline.evaluate)}
    assert baseline.id != baseline_of(read(tmp_path / "student.yaml")).id


def test_evaluations_report_how_far_student_and_teacher_agree(tmp_path):
    recipe = read(write_recipes(tmp_path))
    (student,), _ = run(recipe, tmp_path / "runs")
    lines = read_metrics(student)
    assert [line["step"] for line in lines if "agreement/pixel_accuracy" in line] == [4, 8]
    assert all(0 <= line["agreement/miou"] <= 1 for line in lines if "agreement/miou" in line)
    (without,), _ = run(read(tmp_path / "student.yaml", "evaluate.agreement=false"), tmp_path / "runs")
    assert not any("agreement/miou" in line for line in read_metrics(without))
    assert equal(weights(student), weights(without))
