"""Every recipe that comes with kd is checked, and trains for three steps on a few synthetic frames."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from steps import losses_of, train_and_look

from kd.components import Maker
from kd.data.splits.survey import survey
from kd.parts.assemble import assemble
from kd.parts.checks.dry_run import dry_run
from kd.recipe import read_recipe
from kd.recipe.shipped.recipes import list_recipes, shipped_recipes
from kd.runs import read_result
from kd.train.session import run_recipe
from kd.train.start import start

OFTEN = ("cityscapes/deeplabv3_resnet18_baseline.yaml", "hc18/mobilenetv2_aspp_se_unet.yaml", "voc/maximum.yaml")
RECIPES = [shipped_recipes() / listed for listed in list_recipes()]


def name(path):
    return path.relative_to(shipped_recipes()).as_posix()


def _of(path):
    """Of the recipes of a published dataset, which resemble each other, one or two train in every run of the tests."""
    often = path.parent.name in ("camvid", "membrane", "shapes") or name(path) in OFTEN
    return [] if often else [pytest.mark.slow]


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


@pytest.fixture(scope="session")
def membrane(tmp_path_factory):
    """Six grey images with masks of 0 and 255 beside them."""
    root = tmp_path_factory.mktemp("membrane")
    random = np.random.default_rng(1)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for index in range(6):
        grey = random.integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(grey).save(root / "images" / f"{index:02}.png")
        inside = 255 * random.integers(0, 2, (8, 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(inside).save(root / "masks" / f"{index:02}.png")
    return root


@pytest.fixture(scope="session")
def roots(camvid, membrane, tmp_path_factory):
    """The root of the data of each folder of recipes."""
    published = {
        "ade20k": trees.ade20k,
        "cityscapes": trees.cityscapes,
        "hc18": trees.hc18,
        "suim": trees.suim,
        "voc": lambda root: trees.voc(root, train=7, val=7),
    }
    written = {folder: write(tmp_path_factory.mktemp(folder)) for folder, write in published.items()}
    patches = trees.patches(tmp_path_factory.mktemp("home") / "data" / "patches")
    return {"camvid": camvid, "membrane": membrane, "patches": patches, **written}


def small(path: Path, roots: Mapping[str, Path]) -> list[str]:
    """Overrides that make a recipe train three steps on small images, without downloads."""
    recipe = read_recipe(path)
    overrides = ["train.steps=3", "train.epochs=null", "train.batch_size=2", "data.size=[64, 64]", "data.workers=0"]
    overrides += ["log.tensorboard=false", "log.every=1", "train.evaluate_every=3"]
    if recipe.data.crop is not None:
        overrides.append("data.crop=[64, 64]")
    if recipe.student.weights is not None:
        overrides += ["student.weights=null", "phases=[]"]  # random weights must not be frozen
    if recipe.teacher is not None and recipe.teacher.weights is not None:
        overrides.append("teacher.weights=null")
    root = roots.get(path.parent.name)
    overrides.append(f"data.args.root={root}" if root else "data.args.count=8")
    if recipe.student.use == "students.Pruned":
        pytest.importorskip("torch_pruning", reason="needs the extra prune: pip install 'kd-segmentation[prune]'")
        overrides.append("student.args.file=null")
    if recipe.data.unlabelled is not None and recipe.data.unlabelled.images is not None:
        overrides.append(f"data.unlabelled.images={root / Path(recipe.data.unlabelled.images).name}")
    return overrides


def test_there_are_recipes():
    folders = {"ade20k", "camvid", "cityscapes", "hc18", "membrane", "patches", "shapes", "suim", "voc"}
    assert folders <= {path.parent.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_names_its_command_its_result_and_its_schema(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../recipe.schema.json"
    head = [line for line in lines if line.startswith("#")]
    assert any(line.startswith(f"# Run      kd run {name(path)}") for line in head)
    assert any(line.startswith("# Result   ") for line in head)


def test_the_pruned_recipe_names_the_run_that_its_teachers_recipe_trains():
    recipe = read_recipe(shipped_recipes() / "shapes" / "mobilenetv3_pruned_kl_cwd.yaml")
    assert recipe.student.args["file"] == f"runs/mobilenetv3_kl_cwd-{recipe.teacher_recipe.id}/seed0"
    assert recipe.student.args["network"].args == {"num_classes": 6, **recipe.teacher_recipe.student.args}


@pytest.mark.parametrize("path", [pytest.param(path, marks=_of(path)) for path in RECIPES], ids=name)
def test_a_recipe_is_checked_and_trains_three_steps(path, roots, tmp_path, monkeypatch):
    monkeypatch.chdir(roots["patches"].parents[1])  # these recipes name their class map from there
    recipe = read_recipe(path, small(path, roots))
    Maker(recipe).check()
    parts = assemble(recipe, runs=tmp_path, seed=0, trained=False)
    needs_longer = "warning: schedule has no effect: it needs 7 evaluations"  # HC18's: three steps have one
    assert [line for line in dry_run(parts) if not line.startswith(needs_longer)] == []  # losses reach all parameters
    steps = losses_of(start(parts, seed=0))
    assert [losses.keys() for losses in steps] == 3 * [{"supervised", "total", "gradient_norm", *recipe.distill}]
    assert all(math.isfinite(value) for losses in steps for value in losses.values())
    assert all(value.isfinite().all() for value in parts.student.state_dict().values())


def test_a_shipped_recipe_runs_from_its_teacher_to_its_result(roots, tmp_path):
    path = shipped_recipes() / "camvid" / "mobilenetv3_aspp_kl.yaml"
    overrides = small(path, roots)
    recipe = read_recipe(path, overrides)
    teacher = read_recipe(recipe.teacher_recipe.file, small(recipe.teacher_recipe.file, roots))
    (teacher_dir,) = run_recipe(teacher, runs=tmp_path / "runs", quiet=True, say=lambda line: None)
    student = read_recipe(path, [*overrides, f"teacher={{run: {teacher_dir}}}"])
    run_dirs = run_recipe(student, runs=tmp_path / "runs", baseline=True, quiet=True, say=lambda line: None)
    results = list(map(read_result, run_dirs))
    assert [result.role for result in results] == ["student", "baseline"]
    assert [result.splits["val"].images for result in results] == [2, 2]


def test_every_recipe_is_listed():
    assert "shapes/mobilenetv3_kl_cwd.yaml" in list_recipes()
    assert list_recipes() == [name(path) for path in RECIPES]


@pytest.mark.parametrize("side", ["teacher_aspp_residual_se_unet", "mobilenetv2_aspp_se_unet_kl"])
def test_real_membranes_have_one_channel_and_train(side, shared_data, tmp_path):
    path = shipped_recipes() / "membrane" / f"{side}.yaml"
    overrides = [*small(path, {"membrane": shared_data / "membrane"}), "data.size=[128, 128]"]
    if "mobilenetv2" in side:
        overrides += [
            f"student.weights={shared_data}/weights/mobilenet_v2_imagenet.safetensors",
            "student.partial=true",
        ]
        overrides += ["teacher=null", "distill=null"]  # its term is tested on synthetic data, with the large teacher
        overrides += ["phases=[{until: 2, freeze: backbone}, {}]"]  # the recipe's own, within three steps
    parts = assemble(read_recipe(path, overrides), runs=tmp_path, seed=0, trained=False)
    assert (len(parts.train), len(parts.val), parts.train.in_channels) == (20, 4, 1)
    inside = survey(parts.train)
    assert inside.ignored == 0
    assert 0.7 < inside.counts[1] / inside.pixels < 0.85  # most of a slice is the inside of cells
    if "mobilenetv2" in side:
        (note,) = parts.notes
        assert "loaded 260 of " in note
    states = []

    def look(run, losses):
        states.append({name: value.clone() for name, value in parts.student.network.state_dict().items()})

    run = start(parts, seed=0)
    look(run, {})
    train_and_look(run, look)
    assert len(states) == 4
    assert parts.student.network.num_classes == 1
    first_phase, second_phase = (moved(states[before], states[after]) for before, after in ((0, 2), (2, 3)))
    assert any(name.startswith("decoder.") for name in first_phase)
    if "mobilenetv2" in side:  # the encoder is frozen in the first phase, BatchNorm's statistics included
        assert not any(name.startswith("backbone.") for name in first_phase)
        assert any(name.startswith("backbone.") for name in second_phase)


def moved(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> set[str]:
    return {name for name, value in after.items() if not torch.equal(value, before[name])}
