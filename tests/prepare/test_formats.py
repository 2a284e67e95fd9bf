"""What is special to one format: splits, overlaps, holes, crowds, shapes, and files that lie about."""

import argparse
import base64
import io
import json
from pathlib import Path
from typing import Any

import exports
import numpy as np
import pytest
from command import kd
from PIL import Image

from kd.cli.init import add_arguments
from kd.prepare.formats import FORMATS
from kd.recipe import read_recipe

BOX = [[4, 4, 20, 4, 20, 20, 4, 20]]
INNER = [[8, 8, 16, 8, 16, 16, 8, 16]]


def labels(name: str = "plot0", folder: str = "export-kd") -> np.ndarray:
    return np.array(Image.open(next(Path(folder, "masks").rglob(f"{name}.png"))))


def coco(*annotations: dict[str, Any], file: str = "export/a.json", images: int = 3) -> None:
    """COCO JSON of three images; the annotations are those of the first."""
    exports.write_photos(Path("export/images"))
    exports.write_json(
        Path(file),
        {
            "images": [{"id": n, "file_name": f"{exports.name(n)}.jpg"} for n in range(images)],
            "annotations": [{"image_id": 0, **annotation} for annotation in annotations],
            "categories": [{"id": 1, "name": "leaf"}, {"id": 2, "name": "stem"}],
        },
    )


def drawn(*boxes: tuple[int, int, int]) -> np.ndarray:
    """A mask with squares of a label, between two coordinates, the later ones on top."""
    mask = np.zeros((exports.HEIGHT, exports.WIDTH), np.uint8)
    for label, low, high in boxes:
        mask[low:high, low:high] = label
    return mask


LARGE, SMALL = {"category_id": 1, "segmentation": BOX}, {"category_id": 2, "segmentation": INNER}


@pytest.mark.parametrize(("option", "top"), [([], 2), (["--overlap", "area"], 2), (["--overlap", "order"], 1)])
def test_overlaps_of_coco(option: list[str], top: int, folder: Path) -> None:
    coco(SMALL, LARGE)
    assert kd("init", "export", *option) == 0
    np.testing.assert_array_equal(labels(), drawn((1, 4, 20), (top, 8, 16)))


@pytest.mark.parametrize(("option", "inside"), [([], 1), (["--holes"], 0)])
def test_a_polygon_within_another_is_a_hole_only_if_asked(option: list[str], inside: int, folder: Path) -> None:
    coco(LARGE | {"segmentation": BOX + INNER}, SMALL | {"segmentation": [[30, 30, 40, 30, 40, 40, 30, 40]]})
    assert kd("init", "export", *option) == 0
    np.testing.assert_array_equal(labels(), drawn((1, 4, 20), (inside, 8, 16), (2, 30, 40)))


def test_crowds_are_ignored_and_lie_below(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco(SMALL, LARGE | {"iscrowd": 1}, LARGE | {"segmentation": [[30, 30, 40, 30, 40, 40, 30, 40]]})
    assert kd("init", "export") == 0
    np.testing.assert_array_equal(labels(), drawn((255, 4, 20), (2, 8, 16), (1, 30, 40)))
    assert "ignored, below all objects: 1 crowd (iscrowd)\n" in capsys.readouterr().out


def test_files_of_splits_are_the_splits(folder: Path) -> None:
    for split, number in (("train", 0), ("valid", 1), ("test", 2)):
        part = Path("export", split)
        part.mkdir(parents=True)
        exports.photo(number).save(part / f"p{number}.jpg")
        images = [{"id": 0, "file_name": f"p{number}.jpg", "width": exports.WIDTH, "height": exports.HEIGHT}]
        content = {"images": images, "annotations": [{"image_id": 0, **LARGE}, {"image_id": 0, **SMALL}]}
        categories = [{"id": 0, "name": "plants", "supercategory": "none"}, {"id": 1, "name": "leaf"}]
        exports.write_json(
            part / "_annotations.coco.json", content | {"categories": [*categories, {"id": 2, "name": "stem"}]}
        )
    assert kd("init", "export") == 0
    args = read_recipe(Path("export-kd/student.yaml")).data.args
    assert args["classes"] == ["background", "leaf", "stem"]  # Roboflow's name for all of them has no object
    assert (args["images"], args["masks"], "val" in args) == ("images/{split}", "masks/{split}", False)
    assert [path.parent.name for path in sorted(Path("export-kd/masks").rglob("*.png"))] == ["test", "train", "val"]


def test_images_of_test_never_train(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An export without val: some of its training images are held out."""
    exports.yolo(Path("export"))
    for kind in ("images", "labels"):
        Path("export", kind, "test").mkdir()
        (file,) = Path("export", kind, "train").glob("plot0.*")
        file.rename(Path("export", kind, "test", file.name))
    assert kd("init", "export") == 0
    assert "the export has no validation split: 1 of its 4 training images held out\n" in capsys.readouterr().out
    splits = {path.stem: path.parent.name for path in Path("export-kd/masks").rglob("*.png")}
    assert splits.pop("plot0") == "test"
    assert sorted(splits.values()) == ["train", "train", "train", "val"]


def labelme(*shapes: dict[str, Any]) -> None:
    exports.labelme(Path("export"))
    file = Path("export/plot0.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shapes": shapes}))


def test_shapes_of_labelme(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = Image.fromarray(np.array([[0, 255], [255, 255]], np.uint8))
    file = io.BytesIO()
    part.save(file, "png")
    png = base64.b64encode(file.getvalue()).decode()
    labelme(
        {"label": "leaf", "points": [[20, 8], [4, 4]], "shape_type": "rectangle"},
        {"label": "stem", "points": [[30, 30], [30, 31.6]], "shape_type": "circle"},
        {"label": "stem", "points": [[4, 4], [5, 5]], "shape_type": "mask", "mask": png},
        {"label": "__ignore__", "points": [[40, 40], [44, 40], [44, 44], [40, 44]], "shape_type": "polygon"},
        {"label": "stem", "points": [[0, 0], [9, 9]], "shape_type": "line"},
    )
    assert kd("init", "export") == 0
    mask = drawn((255, 40, 44))
    mask[4:8, 4:20] = 1
    mask[28:32, 28:32] = [[0, 2, 2, 0], [2, 2, 2, 2], [2, 2, 2, 2], [0, 2, 2, 0]]
    mask[[4, 5, 5], [5, 4, 5]] = 2
    np.testing.assert_array_equal(labels(), mask)
    assert "warning: not drawn: 1 shape of type line\n" in capsys.readouterr().out


def test_a_label_that_is_the_background_is_class_0(folder: Path) -> None:
    labelme({"label": "_background_", "points": [[4, 4], [20, 20]], "shape_type": "rectangle"})
    assert kd("init", "export") == 0
    assert read_recipe(Path("export-kd/student.yaml")).data.args["classes"] == ["_background_", "leaf", "stem"]
    assert not labels().any()


def test_a_png_for_each_label_of_label_studio(folder: Path) -> None:
    exports.write_photos(Path("export/photos"))
    tasks = [{"id": 7 + n, "data": {"image": f"/u/{exports.name(n)}.jpg"}, "annotations": []} for n in range(3)]
    exports.write_json(Path("export/tasks.json"), tasks)
    for number in range(3):
        for index, label in ((1, "leaf"), (2, "stem")):
            white = Image.fromarray(((exports.by_hand(number) == index) * 255).astype(np.uint8))
            white.save(f"export/task-{7 + number}-annotation-4-by-1-tag-{label}-0.png")
    assert kd("init", "export") == 0
    for number in range(3):
        np.testing.assert_array_equal(labels(exports.name(number)), exports.by_hand(number))


def test_the_first_annotation_that_was_not_cancelled_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.label_studio(Path("export"))
    file = Path("export/project.json")
    tasks = json.loads(file.read_text())
    (drawing,) = tasks[0]["annotations"]
    tasks[0]["annotations"] = [
        {"id": 1, "was_cancelled": True, "result": []}, drawing, {"id": 3, "was_cancelled": False, "result": []},
    ]  # fmt: skip
    file.write_text(json.dumps(tasks))
    assert kd("init", "export") == 0
    np.testing.assert_array_equal(labels(), exports.by_hand(0))
    assert "warning: several annotations of 1 task, of which the first counts\n" in capsys.readouterr().out


def test_strokes_without_runs_of_repeated_values() -> None:
    """The stream may list values one by one."""
    from kd.prepare.formats.label_studio import brush

    region = [0, 1, 1, 0, 1, 0]
    values = "".join(f"{255 * on:08b}" * 4 for on in region)
    bits = f"{24:032b}{7:05b}" + f"{2:04b}{3:04b}{7:04b}{15:04b}" + f"0{2:02b}{23:08b}" + values
    bits += "0" * (-len(bits) % 8)
    data = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert brush(data, (2, 3), "a").ravel().tolist() == [bool(on) for on in region]


def test_a_mask_of_each_class_by_the_ending_of_its_name(folder: Path) -> None:
    exports.one_per_class(Path("export"))
    for label in ("leaf", "stem"):
        for file in list(Path("export/masks", label).iterdir()):
            file.rename(Path("export/masks", f"{file.stem}_{label}.png"))
        Path("export/masks", label).rmdir()
    assert kd("init", "export") == 0
    for number in range(exports.COUNT):
        np.testing.assert_array_equal(labels(exports.name(number)), exports.by_hand(number))


def test_photos_turned_by_exif_are_annotated_as_they_are_shown(folder: Path) -> None:
    exports.labelme(Path("export"))
    turned = exports.photo(0).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it back, by 90° clockwise
    turned.save("export/plot0.jpg", exif=exif)
    assert kd("init", "export") == 0
    np.testing.assert_array_equal(labels(), exports.by_hand(0))


def test_images_of_one_name_in_two_folders_stay_apart(folder: Path) -> None:
    for part, number in (("a", 0), ("b", 1)):
        exports.labelme(Path(f"export/{part}"))
        for file in Path(f"export/{part}").glob("plot*"):
            if file.stem != f"plot{number}":
                file.unlink()
            else:
                file.rename(file.with_stem("same"))
        content = json.loads(Path(f"export/{part}/same.json").read_text())
        Path(f"export/{part}/same.json").write_text(json.dumps(content | {"imagePath": "same.jpg"}))
    assert kd("init", "export") == 0
    np.testing.assert_array_equal(labels("a__same"), exports.by_hand(0))
    np.testing.assert_array_equal(labels("b__same"), exports.by_hand(1))


def test_masks_of_classes_in_splits_stay_apart(folder: Path) -> None:
    """Images of train and val may have the same names."""
    for split, number in (("train", 0), ("train", 1), ("val", 0)):
        shift = number + 2 * (split == "val")
        for kind, picture in (
            ("images", exports.photo(shift)),
            ("masks/leaf", Image.fromarray(((exports.by_hand(shift) == 1) * 255).astype(np.uint8))),
            ("masks/stem", Image.fromarray(((exports.by_hand(shift) == 2) * 255).astype(np.uint8))),
        ):
            Path("export", split, kind).mkdir(parents=True, exist_ok=True)
            picture.save(Path("export", split, kind, f"{number}.png"))
    assert kd("init", "export") == 0
    masks = {path.parent.name: path for path in Path("export-kd/masks").rglob("*.png")}
    assert masks.keys() == {"train", "val"}
    np.testing.assert_array_equal(np.array(Image.open(masks["val"])), exports.by_hand(2))


@pytest.mark.parametrize("form", ["coco", "labelme", "label_studio"])
def test_images_without_an_annotation_are_left_out(form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.EXPORTS[form](Path("export"))
    exports.photo(9).save("export/another.jpg")
    assert kd("init", "export") == 0
    assert "left out: 1 image without an annotation, such as another.jpg\n" in capsys.readouterr().out
    assert len(list(Path("export-kd/images").iterdir())) == exports.COUNT


@pytest.mark.parametrize("name", ["null", "1", "a: {b, c} # d", "true", "- x", '"', "ignored'"])
def test_any_printable_name_of_a_class_reaches_the_recipe(name: str, folder: Path) -> None:
    coco(SMALL, LARGE)
    file = Path("export/a.json")
    file.write_text(file.read_text().replace('"leaf"', json.dumps(name)))
    assert kd("init", "export") == 0
    assert read_recipe(Path("export-kd/student.yaml")).data.args["classes"] == ["background", name, "stem"]


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "x" * 300])
def test_other_names_are_refused(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco(SMALL, LARGE)
    file = Path("export/a.json")
    file.write_text(file.read_text().replace('"leaf"', json.dumps(name)))
    assert kd("init", "export") == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("export/a.json: the label '")
    assert line.endswith("' is no name; correct it in the tool that drew it")


def test_folders_of_classes_may_lie_beside_the_images(folder: Path) -> None:
    exports.one_per_class(Path("export"))
    masks = Path("export/masks")
    for label in ("leaf", "stem"):
        (masks / label).rename(Path("export", label))
    masks.rmdir()
    assert kd("init", "export") == 0
    np.testing.assert_array_equal(labels(), exports.by_hand(0))


def test_outlines_of_images_called_labels_and_written_on_windows(folder: Path) -> None:
    exports.yolo(Path("export"))
    expected = exports.by_hand(0)
    for file in [*Path("export").rglob("plot0.*")]:
        content = file.read_bytes()
        file.rename(file.with_name(f"labels 0{file.suffix}"))
        if file.suffix == ".txt":
            file.with_name("labels 0.txt").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert kd("init", "export") == 0
    np.testing.assert_array_equal(labels("labels 0"), expected)


def test_names_above_the_export_are_not_its_own(folder: Path) -> None:
    """Downloads lie beside each other; where both folders are named, the export is the folder above them."""
    exports.yolo(Path("export"))
    Path("export/data.yaml").unlink()
    Path("classes.txt").write_text("one\ntwo\n")
    assert kd("init", "export") == 0
    assert read_recipe(Path("export-kd/student.yaml")).data.args["classes"] == ["background", "class 0", "class 1"]
    Path("classes.txt").rename("export/classes.txt")
    assert kd("init", "export/images", "export/labels", "--out", "other") == 0
    assert read_recipe(Path("other/student.yaml")).data.args["classes"] == ["background", "one", "two"]


@pytest.mark.parametrize(
    ("file", "text", "classes"),
    [
        ("c.csv", "name,r,g,b\nleaf,0,200,0\nstem,200,0,0\n", ["leaf", "stem"]),
        ("c.csv", "name,value\nstem,1\nroot,2\nleaf,0\n", ["leaf", "stem", "root"]),
        ("c.json", '["leaf", "stem"]', ["leaf", "stem"]),
        ("c.yaml", "{stem: 1, leaf: 0}", ["leaf", "stem"]),
        ("c.txt", "leaf\n\nroot\n", "c.txt: 2 names, but the labels hold class 1; add the missing names"),
        ("c.yaml", "names: {1: leaf, 2: stem}", "c.yaml: 2 names, but the labels hold class 0; add the missing names"),
        (
            "c.csv",
            "background,0,0,0\nleaf,0,200,0\nstem,200,0,0\n",
            "c.csv: nothing shows which class has which number",
        ),
        ("c.csv", "leaf,1\nstem,1\n", "c.csv: nothing shows which class has which number"),
    ],
)
def test_a_class_map_names_the_classes_of_outlines_by_their_numbers(
    file: str, text: str, classes: list[str] | str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.yolo(Path("export"))  # of class 0, a leaf, and class 1, a stem
    Path(file).write_text(text)
    assert kd("init", "export", "--classes", file) == (3 if isinstance(classes, str) else 0)
    if isinstance(classes, str):
        assert capsys.readouterr().err.startswith(classes)
    else:
        assert read_recipe(Path("export-kd/student.yaml")).data.args["classes"] == ["background", *classes]
        np.testing.assert_array_equal(labels(), exports.by_hand(0))


def test_names_of_outlines_that_count_from_1(folder: Path) -> None:
    exports.yolo(Path("export"))
    for number in range(exports.COUNT - 1):
        Path(f"export/labels/train/{exports.name(number)}.txt").write_text("1 0.1 0.1 0.9 0.1 0.9 0.9\n")
    Path("export/data.yaml").write_text("names: {1: leaf, 4: stem}\n")
    assert kd("init", "export") == 0
    assert read_recipe(Path("export-kd/student.yaml")).data.args["classes"] == ["background", "leaf", "stem"]
    assert set(labels().ravel().tolist()) == {0, 1}


def test_objects_that_are_called_background(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.yolo(Path("export"))
    Path("export/data.yaml").write_text("names: [background, leaf]\n")
    assert kd("init", "export") == 0
    line = "warning: class 0 is called background: its objects are drawn as background\n"
    assert line in capsys.readouterr().out


def test_the_option_form_lists_the_formats() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    (form,) = (action for action in parser._actions if action.dest == "form")
    assert tuple(form.choices or ()) == tuple(FORMATS)


def test_a_format_can_be_chosen(folder: Path) -> None:
    """Masks beside the JSON of another tool."""
    exports.colored(Path("export"))
    exports.labelme(Path("export/images"))
    assert kd("init", "export", "--form", "masks") == 0
    assert read_recipe(Path("export-kd/student.yaml")).data.args["masks"] == "masks"
