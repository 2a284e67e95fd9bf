"""How the parts fit together: the facts that a loss gets, and the losses in its arguments."""

import pytest
from tiny import write_recipes

from kd.components import Maker
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.recipe import read_recipe

MEMORY = "{use: kd.losses.CIRKDMemory, args: {pixel_queue: 8, region_queue: 4}}"
FEATURES = "at: {student: low, teacher: low}, adapter: {use: kd.adapters.Conv1x1}"


@pytest.fixture
def folder(tmp_path):
    write_recipes(tmp_path)
    return tmp_path


def assembled(folder, loss, rest=FEATURES):
    override = f"distill={{only: {{loss: {loss}{', ' + rest if rest else ''}}}}}"
    recipe = read_recipe(folder / "student.yaml", [override], trust=True)
    Maker(recipe).check()
    return assemble(recipe, runs=folder / "runs", seed=0, trained=False)


@pytest.mark.parametrize(
    "loss",
    [
        MEMORY,
        f"{{use: kd.losses.Masked, args: {{near: 1, loss: {MEMORY}}}}}",
        f"{{use: kd.losses.Sampled, args: {{loss: {{use: kd.losses.Masked, args: {{near: 1, loss: {MEMORY}}}}}}}}}",
    ],
)
def test_a_loss_at_any_depth_gets_the_classes_and_the_teachers_channels(folder, loss):
    built = assembled(folder, loss).terms["only"].loss
    while hasattr(built, "loss"):
        built = built.loss
    assert (built.num_classes, built.channels) == (2, 8)
    assert built.pixels.queue.shape == (2, 8, 8)


def test_label_counts_reach_a_loss_in_arguments(folder):
    (folder / "counted.py").write_text("def counted(label_counts):\n    return lambda: list(label_counts)\n")
    masked = "{use: kd.losses.Masked, args: {near: 1, loss: {use: 'counted.py:counted'}}}"
    counts = assembled(folder, masked).terms["only"].loss.loss()
    assert len(counts) == 2
    assert sum(counts) == 12 * 32 * 32  # every pixel of the dozen images has a class


def test_a_recipe_may_not_give_what_is_offered_at_any_depth(folder):
    given = "{use: kd.losses.Masked, args: {near: 1, loss: {use: kd.losses.VID, args: {channels: 3}}}}"
    with pytest.raises(RecipeError) as caught:
        assembled(folder, given)
    (mistake,) = caught.value.mistakes
    assert mistake.endswith("distill.only.loss.args.loss.args.channels: 'channels' is set by the engine; remove it")


def test_a_loss_on_features_inside_another_needs_a_tap_too(folder):
    with pytest.raises(RecipeError) as caught:
        assembled(folder, "{use: kd.losses.Masked, args: {near: 1, loss: {use: kd.losses.MSE}}}", rest="")
    (mistake,) = caught.value.mistakes
    assert mistake.endswith("kd.losses.Masked compares features: distill.only needs at: {student: …, teacher: …}")


@pytest.mark.parametrize(("entity", "account"), [(", entity: team", "team"), ("", "your own account")])
def test_a_recipe_that_sends_its_run_away_is_shown_to_do_so(folder, entity, account):
    recipe = read_recipe(folder / "student.yaml", [f"track={{project: shapes{entity}}}"], trust=True)
    notes = assemble(recipe, runs=folder / "runs", seed=0, trained=False).notes
    assert f"track: numbers and pictures go to Weights & Biases, project shapes of {account}" in notes
