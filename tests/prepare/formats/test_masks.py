"""Masks that are there: where they lie, and what their numbers and colours mean, as arguments of `Folders`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kd.data import Folders
from kd.errors import DataError
from kd.prepare.files import list_tree
from kd.prepare.formats import find
from kd.prepare.formats.export import Ready, Source

LABELS = np.kron(np.array([[0, 1, 0], [2, 1, 0]], np.uint8), np.ones((8, 8), np.uint8))
COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)
BINARY = (LABELS > 0) * np.uint8(255)


def write(values: np.ndarray, images: str, masks: str, names: str = "0 1 2 3") -> None:
    """Images and masks; `{}` in their paths is a name."""
    for name in names.split():
        for path, pixels in ((images, np.full((16, 24, 3), 9, np.uint8)), (masks, values)):
            Path(path.format(name)).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path.format(name))


def found(images: str = "data", masks: str | None = None, classes: str | None = None) -> Ready:
    tree = list_tree(Path(images))
    source = Source(tree, tree if masks is None else list_tree(Path(masks)), Path(classes) if classes else None)
    ready = find(source)
    assert isinstance(ready, Ready)
    return ready


def read(args: dict[str, Any]) -> list[np.ndarray]:
    splits = [Folders(**args, split=split) for split in ("train", "val")]
    return [data.labels(index).numpy() for data in splits for index in range(len(data))]


LAYOUTS: dict[str, tuple[list[tuple[str, str, str]], dict[str, str]]] = {
    "two folders": (
        [("data/images/{}.png", "data/masks/{}.png", "0 1 2 3")],
        {"root": "data", "images": "images", "masks": "masks", "val": "20%"},
    ),
    "folders of other names": (
        [("data/imgs/{}.png", "data/GT/{}.png", "0 1")],
        {"root": "data", "images": "imgs", "masks": "GT", "val": "50%"},
    ),
    "splits above": (
        [("data/train/images/{}.png", "data/train/masks/{}.png", "0 1"),
         ("data/valid/images/{}.png", "data/valid/masks/{}.png", "2")],
        {"root": "data", "images": "{split}/images", "masks": "{split}/masks"},
    ),
    "splits below": (
        [("data/images/train/{}.png", "data/labels/train/{}.png", "0 1"),
         ("data/images/val/{}.png", "data/labels/val/{}.png", "2")],
        {"root": "data", "images": "images/{split}", "masks": "labels/{split}"},
    ),
    "splits in the names of folders": (
        [("data/train/{}.png", "data/trainannot/{}.png", "0 1"), ("data/val/{}.png", "data/valannot/{}.png", "2")],
        {"root": "data", "images": "{split}", "masks": "{split}annot"},
    ),
    "splits before an underscore": (
        [("data/train/{}.png", "data/train_labels/{}.png", "0 1"), ("data/val/{}.png", "data/val_labels/{}.png", "2")],
        {"root": "data", "images": "{split}", "masks": "{split}_labels"},
    ),
    "one folder": (
        [("data/{}.png", "data/{}_mask.png", "0 1 2")],
        {"root": "data", "images": ".", "masks": ".", "mask_suffix": "_mask", "val": "20%"},
    ),
    "two endings": (
        [("data/images/{}_rgb.png", "data/masks/{}_label.png", "0 1 2")],
        {"root": "data", "images": "images", "masks": "masks", "image_suffix": "_rgb", "mask_suffix": "_label",
         "val": "20%"},
    ),
    "folders of places": (
        [("data/images/{}/7.png", "data/masks/{}/7.png", "aachen bonn")],
        {"root": "data", "images": "images", "masks": "masks", "val": "50%"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_reads_the_masks_where_they_are(layout: str, folder: Path) -> None:
    writes, expected = LAYOUTS[layout]
    for images, masks, names in writes:
        write(LABELS, images, masks, names)
    args = dict(found().args)
    assert args.pop("classes") == ["background", "class 1", "class 2"]
    assert args == expected
    assert all(np.array_equal(labels, LABELS) for labels in read({**args, "classes": ["a", "b", "c"]}))


def test_lists_of_splits_are_used(folder: Path) -> None:
    write(LABELS, "data/images/{}.png", "data/masks/{}.png")
    for split, names in (("train", "0\n1\n2\n"), ("val", "3\n")):
        Path(f"data/splits/{split}.txt").parent.mkdir(exist_ok=True)
        Path(f"data/splits/{split}.txt").write_text(names)
    args = found().args
    assert (args["lists"], "val" in args) == ("splits/{split}.txt", False)
    assert len(read(args)) == 4


def test_images_and_masks_may_lie_in_folders_of_their_own(folder: Path) -> None:
    write(LABELS, "a/photos/{}.png", "b/truth/{}.png")
    args = found("a/photos", "b/truth").args
    assert (args["root"], args["images"], args["masks"]) == (".", "a/photos", "b/truth")
    assert len(read(args)) == 4


MEANINGS: dict[str, tuple[np.ndarray, str, str, dict[str, Any]]] = {
    "numbers without names": (LABELS, "", "", {"classes": ["background", "class 1", "class 2"]}),
    "numbers with gaps": (LABELS * 7, "", "", {"classes": {"background": 0, "class 7": 7, "class 14": 14}}),
    "0 and 255": (
        BINARY, "", "", {"classes": ["background", "foreground"], "values": {0: "background", 255: "foreground"}}
    ),
    "0, 1 and 255": (
        np.where(LABELS == 2, 255, LABELS).astype(np.uint8), "", "", {"classes": ["background", "class 1"]}
    ),
    "colours without names": (
        COLORS[LABELS], "", "",
        {"classes": {"background": [0, 0, 0], "color_0000c8": [0, 0, 200], "color_c80000": [200, 0, 0]}},
    ),
    "names a line": (LABELS, "classes.txt", "soil\nleaf\nstem\n", {"classes": ["soil", "leaf", "stem"]}),
    "names without the background": (
        LABELS, "classes.txt", "leaf\nstem\n", {"classes": ["background", "leaf", "stem"]}
    ),
    "names that count from 1": (
        LABELS + 1, "classes.txt", "soil\nleaf\nstem\n",
        {"classes": ["soil", "leaf", "stem"], "values": {1: "soil", 2: "leaf", 3: "stem"}},
    ),
    "names of other numbers": (
        LABELS * 100, "labels.txt", "soil\nleaf\nstem\n",
        {"classes": ["soil", "leaf", "stem"], "values": {0: "soil", 100: "leaf", 200: "stem"}},
    ),
    "two names of 0 and 255": (
        BINARY, "classes.txt", "soil\nleaf\n", {"classes": ["soil", "leaf"], "values": {0: "soil", 255: "leaf"}}
    ),
    "names with numbers": (
        LABELS * 9, "classes.csv", "soil,0\nleaf,9\nstem,18\n", {"classes": {"soil": 0, "leaf": 9, "stem": 18}}
    ),
    "a colour table": (
        COLORS[LABELS], "class_mapping.csv", "name,r,g,b\nsoil,0,0,0\nleaf,200,0,0\nignore,0,0,200\n",
        {"classes": {"soil": [0, 0, 0], "leaf": [200, 0, 0], "ignore": [0, 0, 200]}},
    ),
    "numbers under a colour table": (
        LABELS, "class_mapping.csv", "soil,0,0,0\nleaf,200,0,0\nstem,0,0,200\n", {"classes": ["soil", "leaf", "stem"]}
    ),
    "grey colours that are small numbers in another order": (
        LABELS, "class_dict.csv", "soil,0,0,0\nleaf,2,2,2\nstem,1,1,1\n",
        {"classes": {"soil": [0, 0, 0], "leaf": [2, 2, 2], "stem": [1, 1, 1]}},
    ),
    "grey colours but for the background": (
        LABELS, "obj_class_to_machine_color.json", '{"leaf": [1, 1, 1], "stem": [2, 2, 2], "fruit": [3, 3, 3]}',
        {"classes": {"background": [0, 0, 0], "leaf": [1, 1, 1], "stem": [2, 2, 2], "fruit": [3, 3, 3]}},
    ),
    "numbers but for the background": (
        LABELS, "classes.csv", "leaf,1\nstem,2\n", {"classes": {"background": 0, "leaf": 1, "stem": 2}}
    ),
    "white before black": (
        BINARY, "class_dict.csv", "road,255,255,255\nland,0,0,0\n",
        {"classes": {"road": [255, 255, 255], "land": [0, 0, 0]}},
    ),
    "white before black, in bits": (
        LABELS > 0, "class_dict.csv", "road,255,255,255\nland,0,0,0\n",
        {"classes": {"road": [255, 255, 255], "land": [0, 0, 0]}},
    ),
    "white before black, in numbers": (
        np.minimum(LABELS, 1), "class_dict.csv", "road,255,255,255\nland,0,0,0\n", {"classes": ["land", "road"]}
    ),
    "black, white and a colour that no mask holds": (
        BINARY, "class_dict.csv", "land,0,0,0\nroad,255,255,255\nwater,0,0,255\n",
        {"classes": {"land": [0, 0, 0], "road": [255, 255, 255], "water": [0, 0, 255]}},
    ),
    "a name before that of the background": (
        BINARY, "classes.txt", "road\nbackground\n",
        {"classes": ["background", "road"], "values": {0: "background", 255: "road"}},
    ),
    "a colour called Void": (
        COLORS[LABELS], "class_dict.csv", "Void,0,0,0\nleaf,200,0,0\nstem,0,0,200\n",
        {"classes": {"ignore": [0, 0, 0], "leaf": [200, 0, 0], "stem": [0, 0, 200]}},
    ),
    "a number called unlabeled, of names that count from 1": (
        LABELS + 1, "classes.txt", "leaf\nstem\nunlabeled\n",
        {"classes": ["leaf", "stem", "ignore"], "values": {1: "leaf", 2: "stem", 3: "ignore"}},
    ),
    "a class called void beside another one alone": (
        LABELS // 2, "classes.txt", "void\nstem\n", {"classes": ["void", "stem"]}
    ),
    "nodata below 0": (
        LABELS.astype(np.int32) - 1, "", "",
        {"classes": ["background", "class 1"], "values": {-1: "ignore"}},
    ),
    "nodata below 0 under names": (
        np.where(LABELS > 0, LABELS.astype(np.int32), -9999), "classes.txt", "leaf\nstem\n",
        {"classes": ["leaf", "stem"], "values": {1: "leaf", 2: "stem", -9999: "ignore"}},
    ),
    "nodata below 0 under numbers": (
        np.where(LABELS > 0, LABELS.astype(np.int32), -9999), "classes.csv", "leaf,1\nstem,2\n",
        {"classes": {"leaf": 1, "stem": 2}, "values": {-9999: "ignore"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("meaning", MEANINGS)
def test_masks_get_the_meaning_of_what_they_hold(meaning: str, folder: Path) -> None:
    values, file, text, expected = MEANINGS[meaning]
    write(values, "data/images/{}.png", "data/masks/{}.tif")
    if file:
        Path("data", file).write_text(text)
    args = found().args
    assert {name: args[name] for name in args if name in ("classes", "values", "rest", "threshold")} == expected
    assert len(read(args)) == 4


def test_a_few_pixels_of_no_class_are_ignored_with_a_warning(folder: Path) -> None:
    values = COLORS[LABELS]
    values[0, :2] = (9, 9, 9)  # 2 of 384 pixels
    write(values, "data/images/{}.png", "data/masks/{}.png")
    Path("data/classes.csv").write_text("soil,0,0,0\nleaf,200,0,0\nstem,0,0,200\n")
    ready = found()
    assert ready.args["rest"] == "ignore"
    assert list(ready.notes) == [
        "warning: colours (9, 9, 9) (0.52 % of the pixels) are in no class of data/classes.csv: ignored"
    ]
    assert (read(ready.args)[0][0, :3] == [255, 255, 0]).all()


NOTES = {  # a meaning, and what is printed about it
    "white before black, in numbers":
        "masks hold numbers, not the colours of data/class_dict.csv: 0 is land, 1 is road",
    "numbers under a colour table":
        "masks hold numbers, not the colours of data/class_mapping.csv: 0 is soil, 1 is leaf, …",
    "numbers but for the background":
        "masks hold 0, which data/classes.csv lacks: it is taken for the background",
    "grey colours but for the background":
        "masks hold (0, 0, 0), which data/obj_class_to_machine_color.json lacks: it is taken for the background",
    "a colour called Void": "Void is no class: its pixels are ignored",
    "nodata below 0 under numbers": "-9999 (50.0 % of the pixels) is ignored",
}  # fmt: skip


@pytest.mark.parametrize("meaning", NOTES)
def test_a_guess_is_stated(meaning: str, folder: Path) -> None:
    values, file, text, _ = MEANINGS[meaning]
    write(values, "data/images/{}.png", "data/masks/{}.tif")
    Path("data", file).write_text(text)
    assert list(found().notes) == [NOTES[meaning]]


def test_the_share_of_ignored_pixels_is_stated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from command import kd

    write(np.where(LABELS == 2, 255, LABELS).astype(np.uint8), "data/images/{}.png", "data/masks/{}.png")
    assert kd("init", "data") == 0
    assert "\n255 ignored: train 16.67 %, val 16.67 % of all pixels\n" in capsys.readouterr().out


def test_a_file_that_only_looks_like_a_class_map_is_passed_over(folder: Path) -> None:
    write(LABELS, "data/images/{}.png", "data/masks/{}.png")
    Path("data/image_labels.csv").write_text("image,label,confidence\n0.png,healthy,0.9\n")
    Path("data/labels.txt").write_text("soil\nleaf\nstem\n")
    ready = found()
    assert ready.args["classes"] == ["soil", "leaf", "stem"]
    assert list(ready.notes) == [
        "warning: not a class map: data/image_labels.csv:2: expected name,r,g,b, got '0.png,healthy,0.9'"
    ]


def test_a_mistake_in_a_file_of_classes_is_none_to_pass_over(folder: Path) -> None:
    write(LABELS, "data/images/{}.png", "data/masks/{}.png")
    Path("data/classes.csv").write_text("soil,0,0,0\nleaf,200,O,0\n")
    with pytest.raises(DataError, match=r"^data/classes\.csv:2: expected name,r,g,b, got 'leaf,200,O,0'$"):
        found()


def test_nodata_alone_is_no_class(folder: Path) -> None:
    write(np.full((16, 24), -9999, np.int32), "data/images/{}.png", "data/masks/{}.tif")
    message = "^data/masks/0.tif: all masks hold -9999 alone; give masks of at least 2 classes$"
    with pytest.raises(DataError, match=message):
        found()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("names", ["", "leaf,255,255,255\nsoil,0,0,0\n", "leaf,255\nsoil,0\n"])
def test_soft_edges_set_a_threshold(suffix: str, names: str, folder: Path) -> None:
    large = Image.fromarray(np.kron(BINARY, np.ones((4, 4), np.uint8)))
    soft = np.array(large.resize((48, 32), Image.Resampling.BILINEAR, box=(1.5, 1.2, 94.3, 62.7)))
    for name in "012":
        Path("data/images").mkdir(parents=True, exist_ok=True)
        Path("data/masks").mkdir(exist_ok=True)
        Image.new("RGB", (48, 32)).save(f"data/images/{name}.png")
        Image.fromarray(soft).save(f"data/masks/{name}.{suffix}")
    if names:
        Path("data/classes.csv").write_text(names)
    ready = found()
    dark_first = ["soil", "leaf"] if names else ["background", "foreground"]
    assert (ready.args["classes"], ready.args["threshold"]) == (dark_first, 128)
    assert np.array_equal(read(ready.args)[0], soft >= 128) or suffix == "jpg"


def test_images_without_a_mask_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from command import kd

    write(LABELS, "data/images/{}.png", "data/masks/{}.png")
    Path("data/masks/2.png").unlink()
    Path("data/images/3.png").unlink()
    assert kd("init", "data") == 0
    out = capsys.readouterr().out
    assert "warning: left out: 1 image without a mask, such as images/2.png\n" in out
    assert "warning: left out: 1 mask without an image, such as masks/3.png\n" in out
    assert sorted(path.name for path in Path("data-kd/masks").iterdir()) == ["0.png", "1.png"]
