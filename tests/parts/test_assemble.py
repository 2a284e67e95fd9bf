"""How the parts fit together: the facts that a loss gets, and the losses in its arguments; weights and notes."""

import argparse
import datetime

import pytest
import torch
from tiny import run, write_recipes

from kd.components import Maker
from kd.components.user_files import load
from kd.diagnose.check import check_recipe
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


@pytest.fixture
def foreign(folder):
    """The teacher's network with three classes, saved as another code base would; its state dict."""
    torch.manual_seed(5)
    state = load(folder / "nets.py").Net(3, channels=8).state_dict()
    renamed = {f"module.{name.replace('conv.', 'stem.0.')}": value for name, value in state.items()}
    torch.save(
        {"net": renamed, "ema": renamed, "args": argparse.Namespace(lr=0.1), "when": datetime.datetime.now()},
        folder / "best.pth",
    )
    return state


NET = '{use: "nets.py:Net", args: {channels: 8}, weights: %s}'
MAPPING = "{file: best.pth, key: net, rename: {module.stem.0.: conv.}, head: new}"
LOADED = "best.pth: loaded 6 of 8 tensors; from scratch: head (2); without the prefix module.; not used: head (2)"


def test_a_checkpoint_in_a_foreign_layout_is_loaded_into_both_and_the_line_is_printed(folder, foreign, monkeypatch):
    monkeypatch.chdir(folder)
    overrides = [f"teacher={NET % MAPPING}", f"student={NET % MAPPING}", "distill.hint=null"]
    lines = check_recipe(read_recipe("student.yaml", overrides, trust=True), runs=folder / "runs")
    assert lines[1:] == [f"student: {LOADED}", f"teacher: {LOADED}"]
    recipe = read_recipe("student.yaml", overrides, trust=True)
    parts = assemble(recipe, runs=folder / "runs", seed=0)
    for role in (parts.student, parts.teacher):
        assert torch.equal(role.network.conv.weight, foreign["conv.weight"])
        assert torch.equal(role.network.norm.running_var, foreign["norm.running_var"])
        assert len(role.network.head.weight) == 2
    (run_dir,), lines = run(recipe, folder / "runs")
    assert [line for line in lines if LOADED in line] == [f"  student: {LOADED}", f"  teacher: {LOADED}"]
    kept = read_recipe(run_dir / "recipe.yaml", trust=True)
    assert (kept.student.weights, kept.id) == (recipe.student.weights, recipe.id)
    assert recipe.id != read_recipe("student.yaml", [*overrides, "student.weights.head=null"], trust=True).id


def test_weights_that_do_not_fit_name_the_file_and_the_fix(folder, foreign, monkeypatch):
    monkeypatch.chdir(folder)
    for weights, message in (
        ("best.pth", "weights best.pth: the file holds weights under 'net' and 'ema'; choose one with key:"),
        (MAPPING.replace(", head: new", ""), "weights best.pth: head.weight is for 3 classes, the network for 2; "
         "`head: new` trains a new head"),
        ("{file: worst.pth}", "weights worst.pth: no file worst.pth; give imagenet, a torchvision name, a run "
         "directory or a file"),
    ):  # fmt: skip
        with pytest.raises(RecipeError) as caught:
            check_recipe(read_recipe("student.yaml", [f"student={NET % weights}"], trust=True), runs=folder / "runs")
        (mistake,) = caught.value.mistakes
        assert mistake.endswith(message)


def test_a_teacher_without_weights_is_reported_as_random(folder):
    with (folder / "nets.py").open("a") as file:
        file.write("\n\ndef loaded(num_classes, in_channels):\n    torch.manual_seed(7)\n    return Net(num_classes)\n")

    def notes(name):
        recipe = read_recipe(folder / "student.yaml", [f"teacher={{use: nets.py:{name}}}"], trust=True)
        return assemble(recipe, runs=folder / "runs", seed=0).notes

    assert notes("Net") == ["teacher: no weights given, conv.weight was drawn at random; give teacher.weights"]
    assert notes("loaded") == []
