"""Which pictures are images and which are masks, and which belong together, in folders as data sets have them."""

from collections.abc import Callable
from pathlib import Path

import exports
import numpy as np
import pytest
from command import kd
from PIL import Image

from kd.data import Folders
from kd.prepare.formats.pairs import paired
from kd.recipe import read_recipe

COLORS = exports.COLORS


def save(image: Image.Image, path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def grey(mask: exports.Mask) -> Image.Image:
    return Image.fromarray(mask)


def colored(mask: exports.Mask) -> Image.Image:
    return Image.fromarray(COLORS[mask])


def written(image: str, mask: str, form: Callable[[exports.Mask], Image.Image] = grey) -> None:
    """Three pairs; `{n}` is the number of each, `{s}` its split."""
    for number in range(3):
        names = {"n": number, "s": "train" if number else "val"}
        save(exports.photo(number), image.format(**names))
        save(form(exports.by_hand(number)), mask.format(**names))


def with_more(write: Callable[[], None], *others: tuple[str, Callable[[exports.Mask], Image.Image]]) -> None:
    """Other pictures of the same three images."""
    write()
    for number in range(3):
        for path, form in others:
            save(form(exports.by_hand(number)), path.format(n=number, s="train" if number else "val"))


TREES: dict[str, Callable[[], None]] = {
    "endings of both": lambda: written("export/10{n}_sat.jpg", "export/10{n}_mask.png"),
    "endings of both, no word among them": lambda: written("export/{n}_left.png", "export/{n}_drawn.png"),
    "one name, two suffixes": lambda: written("export/plot {n}.jpg", "export/plot {n}.png"),
    "folders of no known name": lambda: written("export/StillsRaw_full/a{n}.png", "export/Approved_full/a{n}_L.png"),
    "folders of two words": lambda: written("export/Original/{n}.png", "export/Ground Truth/{n}.png"),
    "words within names of folders": lambda: written(
        "export/2_Ortho_RGB/t_{n}_RGB.png", "export/5_Labels_all/t_{n}_label.png"
    ),
    "sides below splits and regions": lambda: written(
        "export/{s}/Urban/images_png/{n}.png", "export/{s}/Urban/masks_png/{n}.png"
    ),
    "nnU-Net's channels": lambda: written("export/imagesTr/c_00{n}_0000.png", "export/labelsTr/c_00{n}.png"),
    "masks a folder deeper": lambda: written("export/images/{n}.jpg", "export/annotations/trimaps/{n}.png"),
    "labelme's folders of pictures": lambda: with_more(
        lambda: written("export/JPEGImages/{n}.jpg", "export/SegmentationClassPNG/{n}.png"),
        ("export/SegmentationClassVisualization/{n}.jpg", colored),
    ),
    "several masks of Cityscapes' kind": lambda: with_more(
        lambda: written("export/leftImg8bit/{s}/x/{n}_leftImg8bit.png", "export/gtFine/{s}/x/{n}_gtFine_labelIds.png"),
        ("export/gtFine/{s}/x/{n}_gtFine_color.png", colored),
        ("export/gtFine/{s}/x/{n}_gtFine_instanceIds.png", lambda mask: Image.fromarray(mask.astype(np.uint16) * 1000)),
    ),
    "words before the numbers": lambda: written("export/images/img_{n}.jpg", "export/masks/mask_{n}.png"),
    "capitals and zeros": lambda: written("export/images/IMG-{n}.JPG", "export/masks/img_00{n}.png"),
    "other pictures beside the images": lambda: with_more(
        lambda: written("export/images/ISIC_{n}.jpg", "export/masks/ISIC_{n}_segmentation.png"),
        ("export/images/ISIC_{n}_superpixels.png", colored),
    ),
}  # fmt: skip


def shown_in(image: np.ndarray) -> int:
    """The number of the photo that an image is, which JPEG may have changed a little."""
    photos = [np.array(exports.photo(number)).astype(int) for number in range(3)]
    return int(np.argmin([np.abs(image.astype(int) - photo).mean() for photo in photos]))


@pytest.mark.parametrize("tree", TREES)
def test_masks_are_found_and_belong_to_their_images(tree: str, folder: Path) -> None:
    TREES[tree]()
    assert kd("init", "export") == 0
    args = read_recipe(Path("export-kd/student.yaml")).data.args
    seen = 0
    for split in ("train", "val"):
        data = Folders(**args, split=split)
        for index in range(len(data)):
            sample = data[index, 0]
            number = shown_in(sample.image.permute(1, 2, 0).numpy())
            np.testing.assert_array_equal(data.labels(index), exports.by_hand(number))
            seen += 1
    assert seen == 3


def test_names_that_do_not_agree_are_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written("export/images/plot{n}.jpg", "export/masks/field{n}.png")
    assert kd("init", "export") == 3
    assert capsys.readouterr().err == (
        "export: none of 3 masks has the name of one of 3 images, such as masks/field0.png and images/plot0.jpg; "
        "rename them alike\n"
    )


def test_masks_of_two_kinds_are_not_mixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_more(
        lambda: written("export/img/{n}.jpg", "export/masks_machine/{n}.png"), ("export/masks_human/{n}.png", colored)
    )
    assert kd("init", "export") == 3
    assert "give kd init the folder of the images and then that of the" in capsys.readouterr().err
    assert kd("init", "export/img", "export/masks_machine") == 0


@pytest.mark.parametrize(
    ("image", "view", "vessels", "message"),
    [
        ("training/images/{n}_training.tif", "training/mask/{n}_training_mask.gif",
         "training/1st_manual/{n}_manual1.gif", "training/mask and training/1st_manual both hold masks"),
        ("images/0{n}_dr.JPG", "mask/0{n}_dr_mask.tif", "manual1/0{n}_dr.tif", "mask and manual1 both hold masks"),
    ],
    ids=["DRIVE", "HRF"],
)  # fmt: skip
def test_the_field_of_view_is_not_taken_for_the_labels(
    image: str, view: str, vessels: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_more(lambda: written(f"export/{image}", f"export/{view}"), (f"export/{vessels}", grey))
    assert kd("init", "export") == 3
    assert capsys.readouterr().err == (
        f"export: {message}; give kd init the folder of the images and then that of the masks\n"
    )


def test_instances_beside_masks_are_left_out(folder: Path) -> None:
    with_more(
        lambda: written("export/JPEGImages/{n}.jpg", "export/SegmentationClass/{n}.png"),
        ("export/SegmentationObject/{n}.png", colored),
    )
    assert kd("init", "export") == 0


@pytest.mark.parametrize("factor", [1, 9])
def test_two_versions_of_the_masks_are_no_classes(
    factor: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers are dark, but no black; Mapillary has `v1.2/labels` and `v2.0/labels`."""
    versions = [(f"export/v{n}/labels/{{n}}.png", lambda mask: grey(mask * np.uint8(factor))) for n in (1, 2)]
    with_more(lambda: written("export/images/{n}.jpg", versions[0][0], versions[0][1]), versions[1])
    assert kd("init", "export") == 3
    assert capsys.readouterr().err == (
        "v2/labels/0.png: v1/labels/0.png has the same name; give kd init the folder of the images and then that of "
        "the masks\n"
    )


def test_folders_of_nnu_net(folder: Path) -> None:
    """Images that are named apart are read in place; `Ts` is the test set."""
    for part, numbers in (("Tr", (0, 1)), ("Ts", (2,))):
        for number in numbers:
            save(exports.photo(number), f"export/images{part}/c_{number}_0000.png")
            save(grey(exports.by_hand(number)), f"export/labels{part}/c_{number}.png")
    Path("export/dataset.json").write_text('{"name": "c", "labels": {"background": 0, "leaf": 1, "stem": 2}}')
    assert kd("init", "export") == 0
    args = read_recipe(Path("export-kd/student.yaml")).data.args
    assert Folders(**args, split="test").class_names == ("background", "leaf", "stem")
    assert [Path(name).stem for name in Folders(**args, split="test").names] == ["c_2_0000"]
    assert kd("init", "export/imagesTr", "export/labelsTr", "--out", "apart") == 0
    args = read_recipe(Path("apart/student.yaml")).data.args
    assert (args["root"], args["image_suffix"], list(args["classes"])) == (
        "export", "_0000", ["background", "leaf", "stem"],
    )  # fmt: skip


def test_two_observers_are_no_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_more(
        lambda: written("export/Image_{n}L.jpg", "export/Image_{n}L_1stHO.png"), ("export/Image_{n}L_2ndHO.png", grey)
    )
    assert kd("init", "export") == 3
    assert capsys.readouterr().err == (
        "Image_0L.jpg: masks of 1stHO and 2ndHO; move all but those of one out of the folder\n"
    )


@pytest.mark.parametrize(
    ("images", "marks", "endings"),
    [
        (["a_1.jpg", "a_2.jpg"], ["a_1_mask.png", "a_2_mask.png"], ("", "_mask")),
        (["21_training.tif", "22_training.tif"], ["21_manual1.gif", "22_manual1.gif"], ("_training", "_manual1")),
        (["a.jpg", "b.jpg", "c.jpg"], ["a.png", "b_mask.png", "c_mask.png"], ("", "_mask")),
        (["a.jpg", "b.jpg"], ["a.png", "b.png", "a_old.png"], ("", "")),
        (["a_leaf.jpg", "b_stem.jpg"], ["a_leaf.png", "b_stem.png"], ("", "")),
        (["frame_01.jpg", "frame_02.jpg"], ["frame_02.png", "frame_01.png"], ("", "")),
    ],
)
def test_the_endings_that_pair_most(images: list[str], marks: list[str], endings: tuple[str, str]) -> None:
    found = paired(images, marks)
    assert (found.image_ending, found.mask_ending) == endings
    assert len(found.pairs) >= 2


def test_names_that_begin_alike_are_paired_in_time() -> None:
    """Each of 5,000 names begins as all others do."""
    images = [f"field_{number:05}_rgb.jpg" for number in range(5_000)]
    found = paired(images, [name.replace("_rgb.jpg", "_seg.png") for name in images])
    assert len(found.pairs) == 5_000
    assert (found.image_ending, found.mask_ending) == ("_rgb", "_seg")
