"""Planted defects are found, and clean data sets raise no alarm; the sets are random, and so are the places."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import kd
from made_sets import made_set, write_set
from PIL import Image
from planted import ALONE, MISFITS, OTHERS, take_from

from kd.prepare.defects.find import find_defects
from kd.recipe import read_recipe

RECIPE = """
student: {{use: students.MobileNetV3SmallASPPLite}}
data:
  use: kd.data.Folders
  args: {{root: ., classes: [{classes}], images: "{{split}}/images", masks: "{{split}}/masks"}}
  size: [64, 64]
  workers: 0
supervised: {{use: kd.losses.CrossEntropy}}
optimizer: {{use: torch.optim.SGD, args: {{lr: 0.1}}}}
train: {{steps: 4, batch_size: 4}}
"""


def written(folder, seed, train=24, val=10):
    """The recipe of a made set in a folder, which becomes the current one."""
    made = made_set(seed, train, val)
    write_set(folder, made)
    (folder / "r.yaml").write_text(RECIPE.format(classes=", ".join(made.classes)))
    os.chdir(folder)
    return read_recipe("r.yaml")


def missed(recipe, planted):
    """What of the planted is not reported, with what is."""
    defects, _, notes = find_defects(recipe)

    def found(one):
        return any(kind in one.kind.split(" or ") and all(name in text for name in one.names) for kind, text in defects)

    left = [one for one in planted if not found(one)]
    return [(left, defects, notes)] if left else []


@pytest.mark.parametrize("plants", [MISFITS, OTHERS], ids=["masks", "others"])
def test_defects_in_one_set_are_all_found(folder, plants):
    recipe, take = written(folder, 3, 44, 10), take_from(0, 44)
    assert missed(recipe, [plant(folder, take) for plant in plants]) == []


@pytest.mark.parametrize("plant", ALONE, ids=lambda plant: plant.__name__)
def test_a_defect_that_concerns_the_set_is_found(folder, plant):
    recipe = written(folder, 5, 14, 6)
    assert missed(recipe, [plant(folder, take_from(1, 14))]) == []


def test_clean_sets_raise_no_alarm(folder):
    for seed in range(20):
        (folder / str(seed)).mkdir()
        defects, images, _ = find_defects(written(folder / str(seed), 1000 + seed, 9, 4))
        assert defects == [], seed
        assert images == 13


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("plant", [*MISFITS, *OTHERS, *ALONE], ids=lambda plant: plant.__name__)
def test_every_defect_is_found_in_fifty_sets(folder, plant):
    misses = {}
    for seed in range(50):
        place = folder / "set"
        recipe = written(place, seed)
        if found := missed(recipe, [plant(place, take_from(seed, 24))]):
            misses[seed] = found
        shutil.rmtree(place)
    assert misses == {}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_clean_sets_raise_no_alarm(folder):
    alarms = {}
    for seed in range(200):
        place = folder / "set"
        if defects := find_defects(written(place, seed))[0]:
            alarms[seed] = defects
        shutil.rmtree(place)
    assert alarms == {}


def test_the_command_prints_a_line_a_defect_and_ends_with_3(folder, capsys):
    written(folder, 5, 14, 6)
    assert kd("data", "r.yaml", "--check") == 0
    assert capsys.readouterr().out == "no defect found in 20 images\n"
    for name in ("train/images/3.png", "val/images/9.png"):
        Image.fromarray(np.full((40, 40, 3), 9, np.uint8)).save(name)
    for name in ("train/masks/3.png", "val/masks/9.png"):
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(name)
    assert kd("data", "r.yaml", "--check") == 3
    assert capsys.readouterr().out.splitlines() == [
        "blank image: train: train/images/3.png: the image shows nothing",
        "blank image: val: val/images/9.png: the image shows nothing",
        "image in two splits: train 3.png = val 9.png",
        "3 defects in 21 images",
    ]
    assert not list(Path().glob("r-data*"))


def test_a_split_that_cannot_be_opened_does_not_hide_the_other(folder, capsys):
    written(folder, 5, 14, 6)
    shutil.rmtree("val")
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save("train/masks/0.png")
    Image.fromarray(np.full((40, 40, 3), 9, np.uint8)).save("train/images/0.png")
    assert kd("data", "r.yaml", "--check") == 3
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("files: val/images: ")
    assert "no label: train: train/images/0.png: no pixel is labelled" in out


def test_too_few_masks_to_compare_are_said_to_be(folder, capsys):
    written(folder, 5, 4, 3)
    assert kd("data", "r.yaml", "--check") in (0, 3)  # a class may be missing
    line = "whether masks fit their images was not looked at: fewer than 8 masks hold several classes"
    assert line in capsys.readouterr().out.splitlines()
