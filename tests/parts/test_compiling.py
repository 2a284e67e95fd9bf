import warnings

import pytest
import torch
from tiny import write_recipes
from toy import flat

from kd.parts.assemble import assemble, example_batch
from kd.parts.compiling import compile_roles
from kd.recipe import read_recipe
from kd.train.loop import train
from kd.train.start import start


@pytest.fixture
def parts(tmp_path):
    recipe = read_recipe(write_recipes(tmp_path), trust=True)
    return assemble(recipe, runs=tmp_path, seed=0, trained=False)


def outputs(parts):
    batch = example_batch(parts)
    parts.student.eval()
    student, teacher = parts.student(batch.images), parts.teacher(batch)
    parts.student.train()
    return [*student.at.values(), *teacher.at.values()]


def test_compiled_networks_give_the_same_maps_and_move_nothing(parts):
    before = {name: value.clone() for name, value in parts.student.state_dict().items()}
    expected, rng = outputs(parts), torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile_roles([parts.student, parts.teacher], example_batch(parts, (32, 32), 4), parts.precision, "eager")
    assert parts.student.taps.run is not parts.student.network
    for compiled, uncompiled in zip(outputs(parts), expected, strict=True):
        torch.testing.assert_close(compiled, uncompiled)
    assert torch.equal(torch.get_rng_state(), rng)
    after = parts.student.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in parts.student.parameters())


def test_a_compiler_that_fails_is_one_warning_and_training_continues(tmp_path, parts):
    def broken(graph, inputs):
        raise RuntimeError("no compiler\nhere")

    with pytest.warns(
        UserWarning, match="train.compile: failed .*no compiler here.*; training continues uncompiled"
    ) as warned:
        compile_roles([parts.student, parts.teacher], example_batch(parts), parts.precision, broken)
    assert sum("train.compile" in str(warning.message) for warning in warned) == 1
    assert parts.student.taps.run is parts.student.network
    assert parts.teacher.taps.run is parts.teacher.network
    run = start(parts, seed=0)
    before = flat(run.student)
    train(run)
    assert not torch.equal(before, flat(run.student))


@pytest.mark.parametrize(
    ("which", "kinds"),
    [("off", ()), ("teacher", ("Teacher",)), ("student", ("Student",)), ("all", ("Student", "Teacher"))],
)
def test_the_recipe_selects_the_networks(tmp_path, monkeypatch, which, kinds):
    calls = []
    monkeypatch.setattr("kd.train.start.compile_roles", lambda roles, batch, *_: calls.append((roles, batch)))
    recipe = read_recipe(write_recipes(tmp_path), [f"train.compile={which}", "data.crop=[32, 48]"], trust=True)
    start(assemble(recipe, runs=tmp_path, seed=0, trained=False), seed=0)
    assert [tuple(type(role).__name__ for role in roles) for roles, _ in calls] == ([kinds] if kinds else [])
    assert all(batch.images.shape == (4, 3, 32, 48) for _, batch in calls)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["teacher", "all"])
def test_a_step_through_the_real_compiler_is_the_step(tmp_path, which):
    def trained(*overrides):
        overrides = ["student.use=nets.py:Net", "train.steps=2", *overrides]
        recipe = read_recipe(write_recipes(tmp_path), overrides, trust=True)
        parts = assemble(recipe, runs=tmp_path, seed=0, trained=False)
        parts.student.network.drop.p = 0.0  # the compiler draws other numbers
        train(start(parts, seed=0))
        return flat(parts.student)

    torch.testing.assert_close(trained(f"train.compile={which}"), trained(), atol=1e-5, rtol=1e-4)
