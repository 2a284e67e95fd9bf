import json
import os
import signal
from functools import partial

import pytest
import torch
from steps import at_each_step
from tiny import equal, in_child, read, run, weights, write_recipes

from kd.errors import NoCheckpointError, RecipeError, StoppedError, StorageError
from kd.recipe import baseline_of
from kd.runs import read_metrics, read_result, run_directory

IGNORE_TIMES = {"seconds", "images_per_second", "peak_memory"}


def test_the_teacher_first_then_the_seeds_then_the_twin(tmp_path):
    recipe = read(write_recipes(tmp_path), "train.seeds=[0, 1]")
    (first, second, twin, twin_two), said = run(recipe, tmp_path / "runs", baseline=True)
    assert [d.name for d in (first, second, twin, twin_two)] == ["seed0", "seed1", "seed0", "seed1"]
    result = read_result(first)
    assert (result.role, read_result(twin).role) == ("student", "baseline")
    assert result.baseline == twin.parent.name
    teacher = run_directory(recipe.teacher_recipe, tmp_path / "runs", 0)
    assert result.teacher.run == str(teacher)
    assert read_result(teacher).role == "teacher"
    assert result.teacher.splits == read_result(teacher).splits  # scored by the same code on the same images
    assert sum("nets.py:Net, distilled" in line for line in said) == 2
    assert (first / "recipe.yaml").is_file()
    assert json.loads((first / "environment.json").read_text())["in_channels"] == 3
    # the same command again has nothing to do
    again, said = run(recipe, tmp_path / "runs", baseline=True)
    assert again == [first, second, twin, twin_two]
    assert all(": finished (val mIoU " in line for line in said)


def test_student_and_twin_start_from_the_same_weights_and_see_the_same_images(tmp_path):
    recipe = read(write_recipes(tmp_path), "distill.kl.weight=0", "distill.hint.weight=0")
    (student, twin), _ = run(recipe, tmp_path / "runs", baseline=True)
    assert equal(weights(student), weights(twin))


def test_a_student_needs_nothing_of_its_teacher(tmp_path):
    recipe = read(write_recipes(tmp_path))
    (student,), _ = run(recipe, tmp_path / "runs")
    assert not any(key.startswith(("adapters", "teacher", "losses")) for key in weights(student))


def test_a_mistake_in_the_student_is_found_before_the_teacher_trains(tmp_path):
    recipe = read(write_recipes(tmp_path), "distill.hint.at.teacher=lo")
    with pytest.raises(RecipeError, match="the teacher: tap 'lo': no such tap or module"):
        run(recipe, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_killed_and_killed_again_it_ends_as_if_nothing_had_happened(tmp_path, monkeypatch):
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
    (resumed,), said = run(recipe, tmp_path / "cut")
    assert "  resumes at step 6 of 8" in said
    assert equal(weights(resumed), weights(whole))
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert read_result(resumed).splits == read_result(whole).splits


def test_a_signal_saves_and_the_next_call_goes_on(tmp_path, monkeypatch):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    (whole,), _ = run(recipe, tmp_path / "whole")

    def signalled(recipe, at):
        if at == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        at_each_step(patched, before=signalled)
        with pytest.raises(StoppedError, match="stopped by SIGTERM; the same command resumes the run"):
            run(recipe, tmp_path / "cut")
    (resumed,), said = run(recipe, tmp_path / "cut")
    assert "  resumes at step 3 of 8" in said
    assert equal(weights(resumed), weights(whole))


def test_fresh_moves_the_old_directory_aside(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    (first,), _ = run(recipe, tmp_path / "runs")
    (again,), said = run(recipe, tmp_path / "runs", fresh=True)
    assert again == first
    assert said[0].startswith(f"{first}: moved to {first}-before-")
    assert len(list(first.parent.iterdir())) == 2


def test_select_best_takes_the_best_evaluation(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path), "train.select=best", "train.evaluate_every=1"))
    (best,), _ = run(recipe, tmp_path / "runs")
    scores = [line["val/miou"] for line in read_metrics(best) if "val/miou" in line]
    final = next(line["final/miou"] for line in read_metrics(best) if "final/miou" in line)
    assert read_result(best).select == "best"
    assert final == pytest.approx(max(scores), abs=1e-12)


def test_batchnorm_is_reestimated_where_the_recipe_says_so(tmp_path):
    plain = baseline_of(read(write_recipes(tmp_path)))
    asked = baseline_of(read(tmp_path / "student.yaml", "train.reestimate_batchnorm=2"))
    (one,), _ = run(plain, tmp_path / "runs")
    (other,), _ = run(asked, tmp_path / "runs")
    a, b = weights(one), weights(other)
    changed = {key for key in a if not torch.equal(a[key], b[key])}
    assert changed == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    (done,), _ = run(recipe, tmp_path / "runs")
    (done / "result.json").unlink()
    other = baseline_of(read(tmp_path / "student.yaml", "student.args.channels=6"))
    os.rename(done.parent, run_directory(other, tmp_path / "runs", 0).parent)
    with pytest.raises(NoCheckpointError) as caught:
        run(other, tmp_path / "runs")
    assert "checkpoints: does not fit this recipe (" in str(caught.value)
    assert "size mismatch for network.conv.weight" in str(caught.value)
    assert str(caught.value).endswith("; use --fresh")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_written_is_one_line(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path)))
    (tmp_path / "runs").write_text("a file, not a folder")
    with pytest.raises(StorageError, match=r"seed0: cannot be written \(Not a directory\); choose"):
        run(recipe, tmp_path / "runs")


def test_images_are_scored_as_the_recipe_says(tmp_path, monkeypatch):
    seen = []
    from kd.train import evaluation as scoring

    ordinary = scoring.score_beside
    monkeypatch.setattr(
        scoring, "score_beside", lambda *a, **k: seen.append((k["size"], k["how"])) or ordinary(*a, **k)
    )
    recipe = read(
        write_recipes(tmp_path), "evaluate={size: [48, 64], window: [32, 32], scales: [1.0, 1.5], flip: true}"
    )
    one = baseline_of(recipe)
    run(one, tmp_path / "runs")
    assert set(seen) == {((48, 64), one.evaluate)}
    assert one.id != baseline_of(read(tmp_path / "student.yaml")).id


def test_evaluations_say_how_far_student_and_teacher_agree(tmp_path):
    recipe = read(write_recipes(tmp_path))
    (student,), _ = run(recipe, tmp_path / "runs")
    lines = read_metrics(student)
    assert [line["step"] for line in lines if "agreement/pixel_accuracy" in line] == [4, 8]
    assert all(0 <= line["agreement/miou"] <= 1 for line in lines if "agreement/miou" in line)
    (without,), _ = run(read(tmp_path / "student.yaml", "evaluate.agreement=false"), tmp_path / "runs")
    assert not any("agreement/miou" in line for line in read_metrics(without))
    assert equal(weights(student), weights(without))
