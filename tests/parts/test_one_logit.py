"""`num_classes: 1` in a recipe: one logit for two classes, only inside the network."""

import io

import pytest
import torch
from rich.console import Console
from tiny import equal, read, run, weights, write_recipes

from kd.compare import compare_command
from kd.components import Maker
from kd.diagnose.check import check_recipe
from kd.diagnose.inspect import inspect_command
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.parts.checks.dry_run import dry_run
from kd.parts.checks.examine import diagnose
from kd.parts.trained import load_network
from kd.runs import read_result

PATH = "student.args.num_classes"


def recipes(folder, *, teacher, student):
    path = write_recipes(folder)
    for name, channels, classes in (("teacher", 8, teacher), ("student", 4, student)):
        file = folder / f"{name}.yaml"
        stated = ", num_classes: 1" if classes == 1 else ""
        file.write_text(file.read_text().replace(f"{{channels: {channels}}}", f"{{channels: {channels}{stated}}}"))
    return path


@pytest.mark.parametrize(("teacher", "student"), [(1, 2), (2, 1)])
def test_networks_of_one_and_of_two_logits_teach_each_other(tmp_path, teacher, student):
    path, runs = recipes(tmp_path, teacher=teacher, student=student), tmp_path / "runs"
    recipe = read(path)
    (distilled, baseline), _ = run(recipe, runs, baseline=True)
    for run_dir in (distilled, baseline):
        assert weights(run_dir)["head.weight"].shape[0] == student
        split = read_result(run_dir).splits["val"]
        assert split.classes == ["dark", "bright"]
        assert split.confusion.sum() == 12 * 32 * 32  # every pixel is scored, in one of the two classes
    network = load_network(distilled, trust=True)
    logits = network(torch.rand(1, 3, 32, 32)).logits
    assert logits.shape[1] == network.num_classes == student
    teacher_dir = runs / read_result(distilled).teacher.run
    assert load_network(teacher_dir, trust=True).num_classes == teacher


def test_everything_outside_the_network_has_two_classes(tmp_path):
    path, runs = recipes(tmp_path, teacher=1, student=1), tmp_path / "runs"
    cached = [f"cache={{views: 2, dtype: float32, folder: {tmp_path / 'cache'}}}"]
    (distilled, _), _ = run(read(path), runs, baseline=True)
    (by_cache,), _ = run(read(path, *cached), runs)
    kept = weights(by_cache)
    (again,), _ = run(read(path, *cached), runs, fresh=True)  # every map is in the cache
    assert equal(kept, weights(again))
    parts = assemble(read(path), runs=runs, seed=0)
    assert dry_run(parts) == []
    diagnosis = diagnose(parts)
    assert diagnosis.rows[0].what == "as stated"
    assert diagnosis.rows[0].miou == pytest.approx(mean_iou(read_result(distilled).teacher.splits["val"].confusion))
    inspected = Console(file=io.StringIO(), width=120)
    inspect_command(read(path), runs=runs, console=inspected)
    assert "4×2×8×8" in inspected.file.getvalue()
    compared = Console(file=io.StringIO(), width=120)
    compare_command([str(path)], trust=True, runs=runs, console=compared)
    assert "bright" in compared.file.getvalue()
    assert (distilled / "report.html").read_text().count("data:image/png") > 0  # pictures of predictions


def mean_iou(confusion):
    hits = confusion.diagonal()
    return (hits / (confusion.sum(0) + confusion.sum(1) - hits)).mean()


def test_one_logit_starts_from_a_run_of_one_logit_and_not_from_one_of_two(tmp_path):
    path, runs = recipes(tmp_path, teacher=1, student=1), tmp_path / "runs"
    (baseline,), _ = run(read(path, "teacher=null", "distill=null"), runs)
    parts = assemble(read(path, f"student.weights={baseline}", "teacher=null", "distill=null"), runs=runs, seed=5)
    assert equal(parts.student.network.state_dict(), weights(baseline))
    two = recipes(tmp_path / "two", teacher=2, student=2)
    with pytest.raises(RecipeError, match=r"head\.bias is for 1 classes, the network for 2; train a new class"):
        assemble(read(two, f"student.weights={baseline}", "teacher=null", "distill=null"), runs=runs, seed=0)
    whole = read(two, f"student.weights={{file: {baseline}, head: new}}", "teacher=null", "distill=null")
    assert assemble(whole, runs=runs, seed=0).student.network.head.weight.shape[0] == 2


@pytest.mark.parametrize(
    ("stated", "fault"),
    [
        ("5", "num_classes is 5, but the data have 2; remove it, or state 1 for a single logit"),
        ("2", "num_classes is 2, but the data have 2; remove it, or state 1 for a single logit"),
        ("0", "num_classes is 0, but the data have 2; remove it, or state 1 for a single logit"),
        ("one", "nets.py:Net takes int as 'num_classes', got 'one'"),
        ("true", "nets.py:Net takes int as 'num_classes', got true"),
    ],
)
def test_any_other_number_of_classes_is_refused(tmp_path, stated, fault):
    path = write_recipes(tmp_path)
    with pytest.raises(RecipeError) as caught:
        check_recipe(read(path, f"{PATH}={stated}"), runs=tmp_path / "runs")
    assert caught.value.mistakes == [f"<{PATH}={stated}>: {PATH}: {fault}"]


def test_one_logit_for_more_than_two_classes_is_refused(tmp_path):
    path = write_recipes(tmp_path)
    shapes = ["data.use=kd.data.Shapes", "data.args={count: 4}", "data.size=[64, 64]", "teacher=null", "distill=null"]
    with pytest.raises(RecipeError) as caught:
        check_recipe(read(path, *shapes, f"{PATH}=1"), runs=tmp_path / "runs")
    classes = len(assemble(read(path, *shapes), runs=tmp_path, seed=0).train.class_names)
    assert caught.value.mistakes == [f"<{PATH}=1>: {PATH}: num_classes is 1, but the data have {classes}; remove it"]


def test_the_recipe_cannot_set_the_channels_of_the_images(tmp_path):
    with pytest.raises(RecipeError, match="'in_channels' is set by the engine; remove it"):
        Maker(read(write_recipes(tmp_path), "student.args.in_channels=3")).check()
