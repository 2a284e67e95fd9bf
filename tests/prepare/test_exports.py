"""Two commands from an export to a trained student, and masks that equal those drawn by hand."""

import re
from pathlib import Path

import exports
import numpy as np
import pytest
from command import kd

from kd.data import Folders
from kd.recipe import Recipe, read_recipe

NUMBERS = {exports.name(number): number for number in range(exports.COUNT)}
READY = {"cvat", "roboflow", "colored"}  # folders that are read where they are


@pytest.mark.parametrize("form", exports.EXPORTS)
def test_masks_equal_those_drawn_by_hand(form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.EXPORTS[form](Path("export"))
    assert kd("init", "export") == 0
    assert "next: kd run export-kd/student.yaml --baseline\n" in capsys.readouterr().out
    assert Path("export-kd/masks").is_dir() == (form not in READY)
    args = read_recipe(Path("export-kd/student.yaml")).data.args
    assert args == read_recipe(Path("export-kd/teacher.yaml")).data.args
    seen = set()
    for split in ("train", "val"):
        data = Folders(**args, split=split)
        assert data.class_names == ("background", "leaf", "stem")
        for index, name in enumerate(data.names):
            number = NUMBERS[Path(name).stem]
            np.testing.assert_array_equal(data.labels(index), exports.by_hand(number), err_msg=name)
            seen.add(number)
    assert seen == set(range(exports.COUNT))


@pytest.mark.parametrize("form", ["coco", pytest.param("roboflow", marks=pytest.mark.slow)])
def test_the_recipes_pass_the_check(form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.EXPORTS[form](Path("export"))
    assert kd("init", "export", "--out", "plots") == 0
    assert kd("check", "plots/student.yaml", "plots/teacher.yaml") == 0
    out = capsys.readouterr().out
    assert "plots/student.yaml: ok: students.MobileNetV3SmallASPP" in out
    assert "plots/teacher.yaml: ok: teachers.DeepLabV3Plus" in out


@pytest.mark.slow
@pytest.mark.parametrize("form", exports.EXPORTS)
def test_two_commands_train_a_student(form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The two commands as they are printed; only the training is shorter."""
    exports.EXPORTS[form](Path("export"))
    assert kd("init", "export") == 0
    for recipe in Path("export-kd").glob("*.yaml"):
        recipe.write_text(re.sub(r"epochs: \d+", "steps: 3", recipe.read_text()))
    assert kd("run", "export-kd/student.yaml", "--baseline") == 0
    assert len(list(Path("runs").glob("*/seed0/result.json"))) == 3


def test_photos_and_annotations_may_lie_apart(folder: Path) -> None:
    exports.coco(Path("tool"))
    Path("tool/images").rename("photos")
    assert kd("init", "photos", "tool/annotations/instances.json", "--out", "plots") == 0
    assert len(list(Path("plots/masks").iterdir())) == exports.COUNT
    exports.colored(Path("more"))
    Path("more/images").rename("pictures")
    assert kd("init", "pictures", "more/masks", "--classes", "more/class_mapping.csv") == 0
    args = read_recipe(Path("pictures-kd/student.yaml")).data.args
    assert (args["root"], args["images"], args["masks"]) == (".", "pictures", "more/masks")


def test_images_are_links_to_the_same_data(folder: Path) -> None:
    exports.yolo(Path("export"))
    assert kd("init", "export") == 0
    assert Path("export-kd/images/plot0.jpg").samefile("export/images/train/plot0.jpg")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["best.pt"], "{use: teachers.DeepLabV3Plus, weights: best.pt}"),
        (["best.pt", "--network", "teachers.FCNResNet50"], "{use: teachers.FCNResNet50, weights: best.pt}"),
        (
            ["best.pt", "--network", "{use: teachers.DeepLabV3Plus, args: {backbone: resnet18}}"],
            "{use: teachers.DeepLabV3Plus, args: {backbone: resnet18}, weights: best.pt}",
        ),
        (["runs/teacher-1/seed0"], "{run: runs/teacher-1/seed0}"),
    ],
)
def test_a_given_teacher_stands_in_the_recipe_and_is_examined(
    arguments: list[str], expected: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examined = []

    def doctor(recipe: Recipe, runs: Path, name: Path) -> None:
        assert len(list(Path(recipe.data.args["root"], "images").iterdir())) == exports.COUNT
        assert not Path("export-kd").exists()
        assert name == Path("export-kd/student.yaml")
        examined.append(recipe)

    monkeypatch.setattr("kd.diagnose.doctor.doctor_command", doctor)
    Path("runs/teacher-1/seed0").mkdir(parents=True)
    exports.labelme(Path("export"))
    assert kd("init", "export", "--teacher", *arguments) == 0
    assert len(examined) == 1
    assert f"\nteacher: {expected}" in Path("export-kd/student.yaml").read_text()
    assert not Path("export-kd/teacher.yaml").exists()


def test_imagenet_is_the_start_of_both_networks(folder: Path) -> None:
    exports.labelme(Path("export"))
    assert kd("init", "export", "--imagenet") == 0
    for name in ("student", "teacher"):
        assert read_recipe(Path(f"export-kd/{name}.yaml")).student.weights == "imagenet"


def test_an_export_may_be_the_current_folder_and_be_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier call wrote into the export is no part of it."""
    exports.coco(Path("export"))
    monkeypatch.chdir("export")
    assert kd("init", ".") == 0
    assert kd("init", ".", "--out", "again") == 0
    assert len(list(Path("export-kd/masks").iterdir())) == len(list(Path("again/masks").iterdir())) == exports.COUNT
