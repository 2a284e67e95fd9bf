"""Every recipe that comes with kd is checked, and trains for three steps on a few made-up frames."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.engine.check import check_recipe
from kd.engine.run import run_recipe
from kd.recipe import baseline_of, read_recipe, shipped_recipes, teacher_recipe
from kd.runs import read_result

RECIPES = sorted(shipped_recipes().rglob("*.yaml"))


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
def test_a_recipe_passes_kd_check(path, camvid, tmp_path):
    lines = check_recipe(path, small(path, camvid), runs=tmp_path)
    assert lines[0].startswith(f"{path}: ok: ")


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_trains_three_steps(path, camvid, tmp_path, monkeypatch):
    overrides = small(path, camvid)
    recipe = read_recipe(path, overrides)
    its_teacher = teacher_recipe(recipe)
    if its_teacher is not None:  # a teacher of three steps too, given by its run
        teacher = read_recipe(its_teacher.file, small(its_teacher.file, camvid))
        (run,) = run_recipe(teacher, runs=tmp_path / "runs", quiet=True, say=lambda line: None)
        recipe = read_recipe(path, [*overrides, f"teacher={{run: {run}}}"])
    (run,) = run_recipe(recipe, runs=tmp_path / "runs", quiet=True, say=lambda line: None)
    result = read_result(run)
    assert (result.role, result.splits["val"].images) == (
        "student" if recipe.distill else "baseline",
        200 if "shapes" in name(path) else 2,
    )
    assert baseline_of(recipe).distill == {}
