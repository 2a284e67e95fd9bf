import copy

import pytest
import torch
from steps import train_and_look
from tiny import RECIPE, cut_at, equal, read, run, weights, write_recipes

from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.recipe import baseline_of
from kd.runs import read_metrics, read_result
from kd.train.between_steps.watch import Watch
from kd.train.one_run import _final_score
from kd.train.start import start

TAUGHT = """
teacher: {ema: 0.5}
distill: {kl: {loss: {use: kd.losses.PixelKL}}, hint: {loss: {use: kd.losses.MSE}, at: {student: norm, teacher: norm}}}
"""


@pytest.fixture
def recipe(tmp_path):
    """A student whose moving average is its teacher."""
    write_recipes(tmp_path)
    (tmp_path / "student.yaml").write_text(RECIPE + TAUGHT)
    return tmp_path / "student.yaml"


def trained(recipe, runs):
    (run_dir,), _ = run(recipe, runs)
    return run_dir


def by_hand(states, decay):
    """The average of the states after each step."""
    average = {name: value.clone() for name, value in states[0].items() if value.is_floating_point()}
    for state in states[1:]:
        average = {name: decay * value + (1 - decay) * state[name] for name, value in average.items()}
    return average


def test_the_average_follows_the_student_and_nothing_else(recipe):
    parts = assemble(read(recipe, "train.ema=0.5"), runs=recipe.parent, seed=0)
    states = []
    train_and_look(start(parts, seed=0), lambda *_: states.append(copy.deepcopy(parts.student.network.state_dict())))
    average = parts.ema.module.state_dict()
    for name, value in by_hand(states, 0.5).items():
        torch.testing.assert_close(average[name], value, atol=1e-6, rtol=1e-5)
    assert set(average) == set(parts.student.network.state_dict())
    assert not any(parameter.requires_grad for parameter in parts.ema.parameters())


def test_the_teacher_is_the_average_after_each_step(recipe):
    parts = assemble(read(recipe), runs=recipe.parent, seed=0)
    assert parts.teacher.network is parts.ema.module
    seen, taught = [], []
    ordinary = parts.teacher.forward

    def teaches(batch):
        taught.append(parts.teacher.network.head.weight.clone())
        return ordinary(batch)

    parts.teacher.forward = teaches
    first = parts.student.network.head.weight.detach().clone()
    train_and_look(start(parts, seed=0), lambda *_: seen.append(parts.student.network.head.weight.detach().clone()))
    assert torch.equal(taught[0], first)
    assert torch.equal(taught[1], seen[0])
    torch.testing.assert_close(taught[2], (seen[0] + seen[1]) / 2)
    assert not any(module.training for module in parts.teacher.modules())


def test_the_result_is_the_averages_and_both_are_scored(recipe, tmp_path):
    plain = trained(baseline_of(read(recipe)), tmp_path / "runs")
    averaged = trained(baseline_of(read(recipe, "train.ema=0.5")), tmp_path / "runs")
    assert not equal(weights(plain), weights(averaged))
    state = torch.load(sorted((averaged / "checkpoints").glob("step-8-*.pt"))[0], weights_only=True)
    assert equal(
        weights(averaged), {k.removeprefix("module."): v for k, v in state["ema"].items() if k != "n_averaged"}
    )
    student = {k.removeprefix("network."): v for k, v in state["student"].items()}
    assert equal(weights(plain), student)  # an average that does not teach changes nothing in the training
    scores, plain_scores = (
        next(line for line in read_metrics(run_dir) if line["step"] == 8 and "val/miou" in line)
        for run_dir in (averaged, plain)
    )
    assert scores["val_student/miou"] == plain_scores["val/miou"]
    assert "val_student/miou" not in plain_scores


def test_an_average_that_only_teaches_is_not_the_result(recipe, tmp_path):
    run_dir = trained(read(recipe), tmp_path / "runs")
    state = torch.load(sorted((run_dir / "checkpoints").glob("step-8-*.pt"))[0], weights_only=True)
    student = {name.removeprefix("network."): v for name, v in state["student"].items() if "network." in name}
    assert equal(weights(run_dir), student)
    result = read_result(run_dir)
    assert (result.teacher.name, result.teacher.run) == ("average of nets.py:Net", None)
    assert result.teacher.splits["val"].images == 12
    assert any("val_ema/miou" in line for line in read_metrics(run_dir))


@pytest.mark.parametrize("step", [1, 5])
def test_resume_is_exact(recipe, tmp_path, step):
    averaged = read(recipe, "train.ema=0.5", "train.select=best", "train.reestimate_batchnorm=1")
    whole = trained(averaged, tmp_path / "whole")
    cut_at(step, averaged, tmp_path / "cut")
    resumed = trained(averaged, tmp_path / "cut")
    assert equal(weights(resumed), weights(whole))
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_pictures_do_not_change_an_average_whose_batchnorm_is_reestimated(recipe, tmp_path):
    overrides = ["train.ema=0.5", "train.reestimate_batchnorm=1", "train.steps=2"]
    plain = trained(baseline_of(read(recipe, *overrides)), tmp_path / "plain")
    pictured = trained(baseline_of(read(recipe, *overrides, "log.tensorboard=true")), tmp_path / "pictured")
    assert equal(weights(pictured), weights(plain))


def test_an_average_is_in_evaluation_mode_after_its_batchnorm_is_reestimated(recipe):
    averaged = baseline_of(read(recipe, "train.ema=0.5", "train.reestimate_batchnorm=1"))
    parts = assemble(averaged, runs=recipe.parent, seed=0)
    before = parts.network.norm.running_mean.clone()
    _final_score(parts, Watch(), 0, 0)
    assert not torch.equal(parts.network.norm.running_mean, before)
    assert not any(module.training for module in parts.network.modules())


def test_two_averages_are_refused(recipe):
    with pytest.raises(RecipeError, match=r"ema 0.9 and teacher.ema 0.5 are decays of the same moving average; make"):
        read(recipe, "train.ema=0.9")
    with pytest.raises(RecipeError, match="give one of recipe, run, use and ema, got recipe and ema"):
        read(recipe, "teacher.recipe=teacher.yaml")
