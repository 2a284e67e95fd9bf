"""Names of variants, by the settings in which they differ."""

import pytest
from manifests import list_anew
from recipe_text import ALONE

from kd.compare.gathering.gather import gather
from kd.compare.gathering.names import differing
from kd.compare.tables import class_rows
from kd.recipe import read_recipe, to_yaml

USE = {"use": "kd.losses.PixelKL", "args": {"temperature": 1.0}}


@pytest.mark.parametrize(
    ("trees", "found"),
    [
        ([{"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}], {("b", "c"): ["2", "3"]}),
        ([{"kl": USE}, {"kl": None}], {("kl",): ["PixelKL", "no"]}),  # not a line for each of its arguments
        ([{"kl": USE}, {"kl": {**USE, "use": "mine.py:KL"}}], {("kl",): ["PixelKL", "KL"]}),
        ([{"kl": USE}, {"kl": {**USE, "args": {"temperature": 4.0}}}], {("kl", "args", "temperature"): ["1.0", "4.0"]}),
        ([{"kl": USE}, {"kl": {**USE, "args": {}}}], {("kl", "args", "temperature"): ["1.0", "default"]}),
        ([{"args": {"size": 2, "crop": None}}, {"args": {"size": 2}}], {("args", "crop"): ["no", "default"]}),
        ([{"size": [64, 64]}, {"size": [64, 128]}], {("size",): ["[64, 64]", "[64, 128]"]}),
        ([{"a": 1}, {"a": 1}], {}),
    ],
)
def test_differences_are_named_at_the_highest_place(trees, found):
    assert dict(differing(trees)) == found


def with_recipe(run_dir, tmp_path, *overrides):
    (tmp_path / "small_kl.yaml").write_text(ALONE)
    recipe = read_recipe(tmp_path / "small_kl.yaml", overrides, trust=True)
    (run_dir / "recipe.yaml").write_text(to_yaml(recipe))
    list_anew(run_dir)
    return run_dir


@pytest.fixture
def sweep(made, trio, tmp_path):
    """Students of one stem; `trio` has written their teacher and baseline."""
    trio()

    def write(*variants):
        ids = "1234"
        run_dirs = [made.student(90 + i, name=f"small_kl-{ids[i] * 8}") for i in range(len(variants))]
        return [with_recipe(run_dir, tmp_path, *each) for run_dir, each in zip(run_dirs, variants, strict=True)]

    return write


def names(run_dirs):
    comparison = gather([str(run_dir) for run_dir in run_dirs])
    return [comparison.label(entry) for entry in comparison.of_role("student")]


def test_variants_of_a_sweep_are_named_by_the_keys_that_differ(sweep):
    run_dirs = sweep(["train.batch_size=2"], ["train.batch_size=4"], ["train.batch_size=4", "train.steps=7"])
    assert names(run_dirs) == [f"steps={steps} batch_size={size}" for steps, size in ((10, 2), (10, 4), (7, 4))]
    comparison = gather(list(map(str, run_dirs)))
    assert class_rows(comparison)[0][3:6] == names(run_dirs)


def test_an_argument_that_only_some_variants_state_is_named_by_its_values(sweep):
    run_dirs = sweep([], *([f"supervised.args={{label_smoothing: {value}}}"] for value in (0.1, 0.2)))
    assert names(run_dirs) == [f"label_smoothing={value}" for value in ("default", "0.1", "0.2")]


def test_the_stem_is_part_of_the_name_where_others_are_compared(made, sweep):
    run_dirs = sweep(["train.batch_size=2", "log.every=2"], ["train.batch_size=4", "log.every=3"])
    assert names(run_dirs) == ["batch_size=2", "batch_size=4"]  # log.every is no part of the recipe's meaning
    other = made.student(80, name="small_cwd-dddddddd")
    assert names([*run_dirs, other]) == ["small_kl batch_size=2", "small_kl batch_size=4", "small_cwd"]


def test_seeds_and_machine_settings_are_no_names_and_equal_recipes_have_their_ids(sweep):
    assert names(sweep(["device=cpu", "train.seeds=[0]"], ["train.seeds=[1]"])) == ["11111111", "22222222"]


def test_many_differences_give_way_to_the_id(sweep):
    many = ["train.batch_size=2", "train.steps=7", "data.size=[96, 96]", "optimizer.args.lr=0.3"]
    assert names(sweep([], many)) == ["11111111", "22222222"]
