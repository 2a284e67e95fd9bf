import math
import re

import pytest
import torch
from tiny import cut_at, write_recipes

from kd.diagnose.check import check_recipe
from kd.errors import RecipeError
from kd.metrics import scores
from kd.recipe import baseline_of, read_recipe
from kd.runs import read_metrics, read_result
from kd.schedules import Patience, constant, cosine, linear, one_cycle, plateau, poly, step
from kd.train.between_steps import evaluation
from kd.train.session import run_recipe


def test_poly_is_the_power_of_what_is_left():
    factor = poly(steps=100)
    assert [factor(0), factor(50), factor(99)] == pytest.approx([1.0, 0.5**0.9, 0.01**0.9])


def test_warmup_climbs_in_a_line_and_the_rest_starts_at_one():
    factor = poly(steps=100, warmup="5%")
    assert [factor(s) for s in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert factor(99) == pytest.approx((1 / 95) ** 0.9)


def test_cosine_goes_from_one_to_its_end():
    factor = cosine(steps=10, end=0.1)
    assert [factor(0), factor(5), factor(10)] == pytest.approx([1.0, 0.55, 0.1])
    assert factor(3) == pytest.approx(0.1 + 0.9 * (1 + math.cos(0.3 * math.pi)) / 2)


def test_constant_and_linear():
    assert constant(steps=10)(7) == 1.0
    factor = linear(steps=100, start=0.0, end=3.0, over="10%")
    assert [factor(s) for s in (0, 5, 10, 99)] == pytest.approx([0.0, 1.5, 3.0, 3.0])


def test_mistakes_show_both_numbers():
    with pytest.raises(ValueError, match="warmup: 20 steps, but the run has 10; shorten the warm-up"):
        poly(steps=10, warmup=20)
    with pytest.raises(ValueError, match=r"start and end must be >= 0, got -1 and 0.0"):
        linear(steps=10, start=-1)
    with pytest.raises(ValueError, match=re.escape("climb: 1 of 3 steps; use at least 2, and leave at least 1")):
        one_cycle(steps=3)
    with pytest.raises(ValueError, match="factor must be between 0 and 1, got 2"):
        plateau(steps=10, factor=2)
    with pytest.raises(ValueError, match="patience must be at least 1 evaluation, got 0"):
        plateau(steps=10, patience=0)
    with pytest.raises(ValueError, match=r"^end must be 0 … 1, got 2$"):
        plateau(steps=10, end=2)
    with pytest.raises(ValueError, match="factor must be above 0, got 0"):
        step(steps=10, at=[5], factor=0)


def rates(make, steps):
    """The learning rate that a scheduler of torch gives at each step, from 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("steps", [20, 101])
def test_one_cycle_is_torchs(steps):
    factor = one_cycle(steps=steps)
    expected = rates(lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps), steps)
    if steps == 20:  # where 30 % are whole steps
        assert [factor(s) for s in range(steps)] == pytest.approx(expected)
    assert (factor(0), max(map(factor, range(steps)))) == pytest.approx((0.04, 1.0))
    assert factor(steps - 1) == pytest.approx(4e-6)


def test_step_is_torchs():
    factor = step(steps=20, at=["50%", 15], factor=0.5)
    expected = rates(lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [10, 15], 0.5), 20)
    assert [factor(s) for s in range(20)] == pytest.approx(expected)


METRICS = [0.1, 0.2, 0.2, 0.15, 0.3, 0.1, 0.1, 0.1, 0.1, 0.35, 0.3, 0.3]


def test_plateau_is_torchs():
    factor = plateau(steps=100, factor=0.5, patience=2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.5, patience=1, threshold=0.0)
    for number, metric in enumerate(METRICS):
        assert factor(number) == optimizer.param_groups[0]["lr"]
        factor.update(metric)
        torchs.step(metric)
    assert factor(99) == 0.5**4


def test_plateau_ends_at_its_smallest_factor():
    factor = plateau(steps=100, factor=0.5, patience=1, end=0.3)
    factors = []
    for _ in range(4):
        factor.update(0.5)  # the first score is the best one
        factors.append(factor(0))
    assert factors == [1.0, 0.5, 0.3, 0.3]


def test_plateau_resumes_from_its_state():
    whole, first, second = (plateau(steps=100, factor=0.5) for _ in range(3))
    for metric in METRICS:
        whole.update(metric)
    for metric in METRICS[:6]:
        first.update(metric)
    second.load_state_dict(first.state_dict())
    for metric in METRICS[6:]:
        second.update(metric)
    assert second.state_dict() == whole.state_dict()
    assert second(50) == whole(50)


def test_patience_runs_out_after_so_many_evaluations_without_a_better_one():
    patience = Patience(2)
    seen = []
    for metric in (0.5, 0.5, 0.6, 0.6, 0.1):
        patience.update(metric)
        seen.append(patience.has_run_out)
    assert seen == [False, False, False, False, True]


def alone(folder, *overrides):
    return baseline_of(read_recipe(write_recipes(folder), overrides, trust=True))


def test_a_term_cannot_wait_for_scores(tmp_path):
    weight = "distill.kl.weight={use: kd.schedules.plateau}"
    with pytest.raises(RecipeError, match=r"kd.schedules.plateau depends on scores and is for the learning rate only"):
        check_recipe(read_recipe(write_recipes(tmp_path), [weight], trust=True), runs=tmp_path)


def scripted(monkeypatch, values):
    """Let the evaluations of a run have these mIoUs."""
    left = iter(values)

    def score(confusion):
        return scores(confusion)._replace(miou=next(left, 0.0))  # 0: of the line at the end

    monkeypatch.setattr(evaluation, "scores", score)


CUT = ["train.steps=12", "train.evaluate_every=1", "train.save_every=1"]


def cut_and_whole(tmp_path, monkeypatch, overrides, values, step):
    """A run in one go, and the same run killed after `step` and resumed; and what the latter said."""
    recipe = alone(tmp_path, *CUT, *overrides)
    scripted(monkeypatch, values)
    (whole,) = run_recipe(recipe, runs=tmp_path / "whole", quiet=True, say=lambda line: None)
    scripted(monkeypatch, values)
    cut_at(step, recipe, tmp_path / "cut")
    said = []
    (resumed,) = run_recipe(recipe, runs=tmp_path / "cut", quiet=True, say=said.append)
    assert any(line == f"  resumes at step {step} of 12" for line in said)
    for file in ("metrics.jsonl", "student.safetensors"):
        assert (resumed / file).read_bytes() == (whole / file).read_bytes()
    return whole, said


def test_plateau_lowers_the_rate_and_resumes_exactly(tmp_path, monkeypatch):
    drops = "schedule={use: kd.schedules.plateau, args: {factor: 0.5}}"
    whole, _ = cut_and_whole(tmp_path, monkeypatch, [drops], METRICS, 3)  # patience has half run out
    found = [line["lr"] for line in read_metrics(whole) if "lr" in line]
    assert found == [0.1] * 4 + [0.05] * 3 + [0.025] * 2 + [0.0125] * 3


@pytest.mark.parametrize("step", [3, 4])  # before it has run out, and after
def test_a_run_ends_when_patience_does_and_resumes_exactly(tmp_path, monkeypatch, step):
    whole, said = cut_and_whole(tmp_path, monkeypatch, ["train.patience=2", "train.select=best"], METRICS[3:], step)
    assert max(line["step"] for line in read_metrics(whole)) == 4
    assert "  ended at step 4 of 12: no better mIoU in 2 evaluations" in said
    assert read_result(whole).splits["val"].images == 12
