"""Every recipe that comes with kd is checked, and trains for three steps on a few made-up frames."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.build import check_calls
from kd.engine.assemble import assemble, make_run
from kd.engine.check import meet
from kd.engine.run import run_recipe
from kd.engine.train import train
from kd.recipe import list_recipes, read_recipe, shipped_recipes, teacher_recipe
from kd.runs import read_result

RECIPES = [shipped_recipes() / listed for listed in list_recipes()]


def name(path):
    return path.relative_to(shipped_recipes()).as_posix()


@pytest.fixture(scope="session")
def camvid(tmp_path_factory):
    """Five training and two validation frames in CamVid's layout: noise, and labels 0 … 11."""
    root = tmp_path_factory.mktemp("camvid")
    random = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        (root / split).mkdir()
        (root / f"{split}annot").mkdir()
        stems = [f"{split}{index}" for index in range(count)]
        (root / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
        for stem in stems:
            Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(root / split / f"{stem}.jpg")
            labels = random.integers(0, 12, (6, 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(labels).save(root / f"{split}annot" / f"{stem}.png")
    return root


def small(path: Path, camvid: Path) -> list[str]:
    """Overrides that make a recipe train three steps on small images, without downloads."""
    recipe = read_recipe(path)
    overrides = ["train.steps=3", "train.epochs=null", "train.batch_size=2", "data.size=[64, 64]", "data.workers=0"]
    overrides += ["log.tensorboard=false", "log.every=1", "train.evaluate_every=3"]
    if recipe.data.crop is not None:
        overrides.append("data.crop=[64, 64]")
    if recipe.student.weights is not None:
        overrides.append("student.weights=null")
    if recipe.data.use == "kd.data.CamVid":
        overrides.append(f"data.args.root={camvid}")
    else:
        overrides.append("data.args.count=8")
    return overrides


def test_there_are_recipes():
    assert {"camvid", "shapes"} <= {path.parent.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_names_its_command_its_result_and_its_schema(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../recipe.schema.json"
    head = [line for line in lines if line.startswith("#")]
    assert any(line.startswith(f"# Run      kd run {name(path)}") for line in head)
    assert any(line.startswith("# Result   ") for line in head)


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_is_checked_and_trains_three_steps(path, camvid, tmp_path):
    recipe = read_recipe(path, small(path, camvid))
    check_calls(recipe)
    parts = assemble(recipe, runs=tmp_path, seed=0, trained=False)
    assert meet(parts) == []  # nothing that no loss reaches
    steps = []
    train(make_run(parts, seed=0, start=0, due=lambda run, losses: steps.append(dict(losses))))
    assert [losses.keys() for losses in steps] == 3 * [{"supervised", "total", "gradient_norm", *recipe.distill}]
    assert all(value.isfinite() for losses in steps for value in losses.values())
    assert all(value.isfinite().all() for value in parts.student.state_dict().values())


def test_a_shipped_recipe_runs_from_its_teacher_to_its_result(camvid, tmp_path):
    path = shipped_recipes() / "camvid" / "mobilenetv3_aspp_kl.yaml"
    overrides = small(path, camvid)
    recipe = read_recipe(path, overrides)
    teacher = read_recipe(teacher_recipe(recipe).file, small(teacher_recipe(recipe).file, camvid))
    (run,) = run_recipe(teacher, runs=tmp_path / "runs", quiet=True, say=lambda line: None)
    taught = read_recipe(path, [*overrides, f"teacher={{run: {run}}}"])
    done = run_recipe(taught, runs=tmp_path / "runs", baseline=True, quiet=True, say=lambda line: None)
    results = [read_result(each) for each in done]
    assert [result.role for result in results] == ["student", "baseline"]
    assert [result.splits["val"].images for result in results] == [2, 2]


def test_the_table_of_methods_is_listed_as_no_recipe():
    assert "shapes/methods.yaml" not in list_recipes()
    assert "shapes/mobilenetv3_kl.yaml" in list_recipes()
    assert list_recipes() == [name(path) for path in RECIPES]
