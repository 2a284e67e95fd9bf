"""Splits that an export states in lists or settings are those of the recipe."""

from pathlib import Path

import exports
import numpy as np
import pytest
from command import kd
from PIL import Image

from kd.data import Folders
from kd.recipe import read_recipe


def names(split: str) -> set[str]:
    args = read_recipe(Path("export-kd/student.yaml")).data.args
    return {Path(name).stem for name in Folders(**args, split=split).names}


def plots(*numbers: int) -> set[str]:
    return {exports.name(number) for number in numbers}


def yolo(settings: str) -> None:
    """YOLO outlines in one folder, but for plot2 in another."""
    exports.yolo(Path("export"))
    for kind, suffix in (("images", "jpg"), ("labels", "txt")):
        Path(f"export/{kind}/train").rename(f"export/{kind}/tr")
        Path(f"export/{kind}/ho").mkdir()
        Path(f"export/{kind}/tr/plot2.{suffix}").rename(f"export/{kind}/ho/plot2.{suffix}")
    Path("export/data.yaml").write_text(settings + "names: [leaf, stem]\n")


@pytest.mark.parametrize("root", ["images/", "./images/", "../export/images/", "/home/somebody/sets/images/"])
def test_folders_in_settings_of_yolo(root: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yolo(f"path: .\ntrain: {root}tr\nval: {root}ho  # plots\ntest:\n")
    assert kd("init", "export") == 0
    assert "splits: as export/data.yaml states them\n" in capsys.readouterr().out
    assert (names("train"), names("val")) == (plots(0, 1, 3, 4), plots(2))


def test_lists_in_settings_of_yolo(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yolo("train: sets/a.txt\nval: [sets/b.txt]\n")
    Path("export/sets").mkdir()
    Path("export/sets/a.txt").write_text("./images/tr/plot0.jpg\r\n./images/tr/plot1.jpg\r\n")
    Path("export/sets/b.txt").write_text(f"./images/ho/plot2.jpg\n./images/tr/{exports.name(3)}.jpg\n")
    assert kd("init", "export") == 0
    assert "left out: 1 image of no split, such as images/tr/plot4.jpg\n" in capsys.readouterr().out
    assert (names("train"), names("val")) == (plots(0, 1), plots(2, 3))


def test_settings_that_validate_on_the_training_images_are_no_split(folder: Path) -> None:
    yolo("train: images/tr\nval: images/tr\n")
    assert kd("init", "export") == 0
    assert names("train") | names("val") == plots(0, 1, 2, 3, 4)
    assert not names("train") & names("val")


def test_lists_beside_coco(folder: Path) -> None:
    exports.coco(Path("export"))
    Path("export/train.txt").write_text("plot0\nplot1.jpg\nplot4\n")
    Path("export/val.txt").write_text(f"images/plot2.jpg\n{exports.name(3)}\n")
    assert kd("init", "export") == 0
    assert (names("train"), names("val")) == (plots(0, 1, 4), plots(2, 3))


def test_lists_of_voc_hold_where_some_images_have_no_mask(folder: Path) -> None:
    exports.write_photos(Path("export/JPEGImages"))
    Path("export/SegmentationClass").mkdir()
    for number in range(4):
        Image.fromarray(exports.by_hand(number)).save(f"export/SegmentationClass/{exports.name(number)}.png")
    for kind, train, val in (("Main", (0, 1, 2, 4), (3,)), ("Segmentation", (0, 1), (2, 3))):
        Path(f"export/ImageSets/{kind}").mkdir(parents=True)
        for split, numbers in (("train", train), ("val", val)):
            Path(f"export/ImageSets/{kind}/{split}.txt").write_text("".join(f"{exports.name(n)}\n" for n in numbers))
    assert kd("init", "export") == 0
    assert (names("train"), names("val")) == (plots(0, 1), plots(2, 3))
    file = next(Path("export-kd/masks").rglob("plot2.png"))
    np.testing.assert_array_equal(np.array(Image.open(file)), exports.by_hand(2))


@pytest.mark.parametrize(
    ("folder_of_lists", "lists", "given", "argument"),
    [
        ("export", ("train", "val"), ["export"], "{split}.txt"),
        ("export", ("train", "valid"), ["export"], "{split}.txt"),
        ("export", ("train", "val"), ["export/images", "export/masks"], "{split}.txt"),
        ("export/ImageSets/Segmentation", ("Train", "Validation"), ["export"], None),
    ],
)
def test_lists_beside_masks(
    folder_of_lists: str, lists: tuple[str, str], given: list[str], argument: str | None, folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Folders reads the lists where they are if it knows their names, without the image of no list."""
    exports.write_photos(Path("export/images"))
    Path("export/masks").mkdir()
    for number in range(exports.COUNT):
        Image.fromarray(exports.by_hand(number)).save(f"export/masks/{exports.name(number)}.png")
    Path(folder_of_lists).mkdir(parents=True, exist_ok=True)
    for name, numbers in zip(lists, ((0, 1), (2, 3)), strict=True):
        Path(folder_of_lists, f"{name}.txt").write_text("".join(f"{exports.name(n)}\n" for n in numbers))
    assert kd("init", *given, "--out", "export-kd") == 0
    assert (names("train"), names("val")) == (plots(0, 1), plots(2, 3))
    assert read_recipe(Path("export-kd/student.yaml")).data.args.get("lists") == argument
    out = capsys.readouterr().out
    assert f"\nsplits: as {folder_of_lists} states them\nleft out: 1 image of no split, such as " in out


def test_lists_of_segmentation_come_first_where_masks_lie(folder: Path) -> None:
    exports.write_photos(Path("export/JPEGImages"))
    Path("export/SegmentationClass").mkdir()
    for number in range(exports.COUNT):
        Image.fromarray(exports.by_hand(number)).save(f"export/SegmentationClass/{exports.name(number)}.png")
    for kind, val in (("Main", 3), ("Segmentation", 2)):
        Path(f"export/ImageSets/{kind}").mkdir(parents=True)
        for split, numbers in (("train", {0, 1, 2, 3} - {val}), ("val", {val})):
            Path(f"export/ImageSets/{kind}/{split}.txt").write_text("".join(f"{exports.name(n)}\n" for n in numbers))
    assert kd("init", "export") == 0
    assert names("val") == plots(2)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("field{image}_y{part}_x0", r"(.*)_y\d+_x\d+"),
        ("field{image}_jpg.rf.0a{part}f", r"(.*)\.rf\."),
        ("field{image}_Slice_00{part}", r"(.*)[_-](?i:slice|frame|z)[_-]?\d+"),
        ("field{image}_z{part}", r"(.*)[_-](?i:slice|frame|z)[_-]?\d+"),
    ],
    ids=["tiles", "Roboflow's copies", "slices", "depths"],
)
@pytest.mark.parametrize("splits", [("",), ("train", "test")], ids=["one folder", "no validation split"])
def test_parts_and_copies_of_an_image_stay_in_one_split(
    name: str, group: str, splits: tuple[str, ...], folder: Path
) -> None:
    """Of 5 images, 3 parts each."""
    for image in range(5):
        for part in range(3):
            split = splits[0] if image else splits[-1]
            stem = name.format(image=image, part=part)
            for kind, picture in (
                ("images", exports.photo(image)),
                ("masks", Image.fromarray(exports.by_hand(image % 4))),
            ):
                path = Path("export", split, kind, f"{stem}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
    assert kd("init", "export") == 0
    args = read_recipe(Path("export-kd/student.yaml")).data.args
    assert ("group" in args) == (len(splits) == 1)
    assert args.get("group", group) == group
    sides = [{text[:6] for text in names(split)} for split in ("train", "val")]
    assert all(sides)
    assert not sides[0] & sides[1]
