import copy
import itertools
import os
import re

import pytest
import torch
from safetensors.torch import save_file
from steps import train_and_look
from tiny import cut_at, equal, run, weights, write_recipes
from toy import flat

from kd.diagnose.check import check_recipe
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.recipe import baseline_of, read_recipe
from kd.runs import run_directory
from kd.train.loop import train
from kd.train.start import start

NAMES = [
    *(
        f"network.{name}"
        for name in ("conv.weight", "conv.bias", "norm.weight", "norm.bias", "head.weight", "head.bias")
    ),
    "adapters.hint.conv.weight",
]


@pytest.fixture
def recipe(tmp_path):
    """The tiny recipe, its network's convolution as weights to start from in `conv.safetensors`."""
    path = write_recipes(tmp_path)
    generator = torch.Generator().manual_seed(3)
    shapes = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "head.weight": (2, 4, 1, 1), "head.bias": (2,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    norm = {"norm.weight": 4, "norm.bias": 4, "norm.running_mean": 4, "norm.running_var": 4}
    tensors |= {name: torch.rand(size, generator=generator) + 0.5 for name, size in norm.items()}
    tensors["norm.num_batches_tracked"] = torch.tensor(7)
    save_file(tensors, tmp_path / "start.safetensors")
    return path


def assembled(path, *overrides):
    recipe = read_recipe(path, overrides, trust=True)
    return assemble(recipe, runs=path.parent / "runs", seed=0, trained=False)


def made(path, *overrides):
    parts = assembled(path, *overrides)
    return parts, start(parts, seed=0)


def groups(parts, run):
    """Every parameter's learning rate and weight decay, by name."""
    names = {id(parameter): name for name, parameter in parts.student.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in run.optimizer.param_groups
        for parameter in group["params"]
    }


def test_without_groups_all_parameters_are_in_one(recipe):
    parts, run = made(recipe)
    assert len(run.optimizer.param_groups) == 1
    assert list(groups(parts, run)) == NAMES


def test_a_pattern_sets_the_rate_and_the_decay_of_its_parameters(recipe):
    parts, run = made(
        recipe,
        "optimizer.args.weight_decay=0.01",
        "optimizer.groups=[{match: 'network.head.*', lr: 10}, {match: 'network.*', lr: 0.1, weight_decay: 0.5}]",
    )
    by_name = groups(parts, run)
    assert sorted(by_name) == sorted(NAMES)
    assert by_name["network.head.bias"] == (1.0, 0.01)
    assert by_name["network.conv.weight"] == by_name["network.norm.bias"] == (pytest.approx(0.01), 0.5)
    assert by_name["adapters.hint.conv.weight"] == (0.1, 0.01)
    run.steps = 1
    run.phases.factor = lambda step: 0.5
    train(run)
    assert groups(parts, run)["network.conv.weight"] == (pytest.approx(0.005), 0.5)


def test_norms_and_biases_can_go_without_decay(recipe):
    decay = ["optimizer.args.weight_decay=0.01", "optimizer.decay_norms_and_biases=false"]
    by_name = groups(*made(recipe, *decay, "optimizer.groups=[{match: 'network.conv.*', weight_decay: 0.5}]"))
    assert {name: decay for name, (_, decay) in by_name.items()} == {
        "network.conv.weight": 0.5,
        "network.conv.bias": 0.0,
        "network.norm.weight": 0.0,
        "network.norm.bias": 0.0,
        "network.head.weight": 0.01,
        "network.head.bias": 0.0,
        "adapters.hint.conv.weight": 0.01,
    }


def test_a_number_beyond_float32_is_refused(recipe):
    with pytest.raises(RecipeError, match=r"lr is 1e\+39, above 3.4e\+38, the largest float32"):
        made(recipe, "optimizer.args.lr=1e39")


def test_a_pattern_that_matches_nothing_is_an_error_with_the_closest_names(recipe):
    with pytest.raises(RecipeError) as caught:
        made(recipe, "optimizer.groups=[{match: 'network.cnov.*'}, {match: 'network.*'}, {match: 'network.head.*'}]")
    first, second = caught.value.mistakes
    assert "optimizer.groups.0.match: 'network.cnov.*' matches no trainable parameter; the closest are " in first
    assert first.split("the closest are ")[1].startswith("network.conv.")
    assert second.endswith(
        "optimizer.groups.2.match: 'network.head.*' matches only parameters that an earlier pattern matches; move it up"
    )


def test_the_baseline_without_adapters_accepts_the_same_groups(recipe):
    groups = "optimizer.groups=[{match: 'adapters.*', lr: 2}]"
    baseline = baseline_of(read_recipe(recipe, [groups], trust=True))
    run = start(assemble(baseline, runs=recipe.parent, seed=0), seed=0)
    assert [group["lr"] for group in run.optimizer.param_groups] == [0.1]


def test_weight_decay_for_an_optimizer_without_it_is_refused(recipe):
    rprop = ["optimizer={use: torch.optim.Rprop, groups: [{match: 'network.*', weight_decay: 0.1}]}"]
    with pytest.raises(RecipeError, match=r"torch.optim.Rprop has no weight decay; remove it from optimizer.groups"):
        made(recipe, *rprop)


FROZEN = ["student.freeze=[conv, norm]", "train.steps=10", "optimizer.args.weight_decay=0.1"]


def frozen(recipe):
    return [*FROZEN, f"student.weights={recipe.parent / 'start.safetensors'}"]


def test_no_bit_of_a_frozen_part_changes_in_ten_steps(recipe):
    parts, run = made(recipe, *frozen(recipe), "distill.hint=null", "train.reestimate_batchnorm=2")
    before = copy.deepcopy(parts.student.network.state_dict())
    train(run)
    after = parts.student.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head.weight", "head.bias"}


def test_frozen_dropout_is_off_and_stays_off(recipe):
    parts = assembled(recipe, *frozen(recipe), "student.freeze=[conv, norm, drop]", "distill.hint=null")
    images = torch.rand(4, 3, 32, 32)
    parts.student.eval()
    parts.student.train()
    assert torch.equal(parts.student(images).logits, parts.student(images).logits)
    assert parts.student.network.head.training


def test_freezing_random_weights_is_an_error(recipe):
    with pytest.raises(RecipeError) as caught:
        assembled(recipe, "student.freeze=conv")
    assert caught.value.mistakes[0].endswith(
        "freeze: 'conv' has no pretrained weights (conv.weight was drawn at random); "
        "give student.weights, or do not freeze it"
    )
    with pytest.raises(RecipeError, match="'head' has no pretrained weights"):
        assembled(recipe, "phases=[{until: 50%, freeze: head}, {}]")


def test_freezing_an_unknown_module_or_everything_is_an_error(recipe):
    with pytest.raises(RecipeError, match=re.escape("freeze: the network has no module 'cnov'; did you mean 'conv'?")):
        assembled(recipe, "student.freeze=cnov")
    weights = f"student.weights={recipe.parent / 'start.safetensors'}"
    with pytest.raises(RecipeError, match="freeze: conv, norm, head: no part of the network is left to train; freeze"):
        assembled(recipe, weights, "student.freeze=[conv, norm, head]")


def test_the_check_for_pretrained_weights_draws_nothing(recipe):
    weights = f"student.weights={recipe.parent / 'start.safetensors'}"
    plain = assembled(recipe, weights)
    checked = assembled(recipe, weights, "student.freeze=[conv]", "distill.hint=null")
    assert torch.equal(flat(plain.student.network), flat(checked.student.network))
    hints = [
        assembled(recipe, weights, *more).student.adapters for more in ([], ["phases=[{until: 4, freeze: conv}, {}]"])
    ]
    assert torch.equal(flat(hints[0]), flat(hints[1]))


PHASES = "phases=[{until: 50%, freeze: [conv, norm]}, {lr: 1e-5}]"


def phased(recipe):
    return [
        PHASES,
        f"student.weights={recipe.parent / 'start.safetensors'}",
        "optimizer.groups=[{match: '*.conv.*', lr: 0.1}]",
    ]


def test_a_phase_freezes_and_the_next_one_unfreezes_at_another_rate(recipe):
    parts, run = made(recipe, *phased(recipe), "schedule={use: kd.schedules.constant}")
    seen = []

    def look(run, losses):
        values = copy.deepcopy(parts.student.network.state_dict())
        seen.append((values, groups(parts, run)))

    before = copy.deepcopy(parts.student.network.state_dict())
    train_and_look(run, look)
    states = [before, *(values for values, _ in seen)]
    for name in ("conv.weight", "norm.weight", "norm.running_mean"):
        moved = [not torch.equal(a[name], b[name]) for a, b in itertools.pairwise(states)]
        assert moved == [False] * 4 + [True] * 4, name
    assert all(not torch.equal(a["head.weight"], b["head.weight"]) for a, b in itertools.pairwise(states))
    rates = [(by_name["network.head.weight"][0], by_name["network.conv.weight"][0]) for _, by_name in seen]
    assert rates[3] == pytest.approx((0.1, 0.01))
    assert rates[4] == pytest.approx((1e-5, 1e-6))


def test_phases_follow_one_another(recipe):
    weights = f"student.weights={recipe.parent / 'start.safetensors'}"
    with pytest.raises(RecipeError, match=re.escape("phases.1.until: step 2 must be between step 4, where the phase")):
        assembled(recipe, weights, "phases=[{until: 50%, freeze: conv}, {until: 2}, {}]")
    for wrong in ("[{freeze: conv}, {lr: 1}]", "[{until: 4}, {until: 6}]"):
        with pytest.raises(RecipeError, match="every phase but the last needs `until`, and the last has none"):
            assembled(recipe, f"phases={wrong}")


def test_a_term_that_teaches_nothing_in_a_phase_is_reported(recipe):
    overrides = [*phased(recipe), "optimizer.groups=[]"]
    lines = check_recipe(read_recipe(recipe, overrides, trust=True), runs=recipe.parent / "runs")
    assert lines[1].startswith("student: start.safetensors: loaded ")
    assert lines[2] == "distill.hint reaches no trainable parameter in steps 0 to 4: the phase freezes conv, norm"


@pytest.mark.parametrize("step", [3, 4, 5])
def test_resume_across_a_phase_boundary_is_exact(recipe, tmp_path, step):
    baseline = baseline_of(read_recipe(recipe, [*phased(recipe), "train.save_every=1"], trust=True))
    (whole,), _ = run(baseline, tmp_path / "whole")
    cut_at(step, baseline, tmp_path / "cut")
    (resumed,), lines = run(baseline, tmp_path / "cut")
    assert f"  resumes at step {step} of 8" in lines
    assert resumed == run_directory(baseline, tmp_path / "cut", 0)
    assert equal(weights(resumed), weights(whole))
    assert os.path.getsize(resumed / "metrics.jsonl")
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
