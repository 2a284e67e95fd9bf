import pytest

from kd.data.datasets.layout import Layout
from kd.data.splits.shares import Shares
from kd.errors import DataError

DEFAULTS = {
    "images": "images",
    "masks": "masks",
    "image_suffix": "",
    "mask_suffix": "",
    "lists": None,
    "shares": Shares(),
    "group": None,
    "follow_links": False,
}


def layout(root, **args):
    return Layout(root, **(DEFAULTS | args))


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root, split, **args):
    return {
        name: [path and path.relative_to(root).as_posix() for path in paths]
        for name, paths in layout(root, **args).files(split).files.items()
    }


def test_images_and_masks_in_one_folder(tmp_path):
    touch(tmp_path, "train/a.jpg", "train/a_mask.png", "valid/b.jpg", "valid/b_mask.png", "train/_classes.csv")
    args = {"images": "{split}", "masks": "{split}/", "mask_suffix": "_mask"}
    assert found(tmp_path, "train", **args) == {"a": ["train/a.jpg", "train/a_mask.png"]}
    assert found(tmp_path, "val", **args) == {"b": ["valid/b.jpg", "valid/b_mask.png"]}
    assert layout(tmp_path, **args).files("train").notes == [f"{tmp_path}/train: not read: 1 .csv"]
    assert layout(tmp_path, **args).exists("val")
    assert not layout(tmp_path, **args).exists("test")


def test_the_layout_of_cityscapes(tmp_path):
    kinds = ("leftImg8bit/{}_leftImg8bit", "gtFine/{}_gtFine_labelIds", "gtFine/{}_gtFine_color")
    for kind in kinds:
        folder, end = kind.split("/{}")
        touch(tmp_path, f"{folder}/train/ulm/ulm_0{end}.png", f"{folder}/val/bonn/bonn_0{end}.png")
    args = {
        "images": "leftImg8bit/{split}",
        "masks": "gtFine/{split}",
        "image_suffix": "_leftImg8bit",
        "mask_suffix": "_gtFine_labelIds",
    }
    assert found(tmp_path, "val", **args) == {
        "bonn/bonn_0": ["leftImg8bit/val/bonn/bonn_0_leftImg8bit.png", "gtFine/val/bonn/bonn_0_gtFine_labelIds.png"]
    }
    assert layout(tmp_path, **args).files("train").notes == [
        f"{tmp_path}/gtFine/train: not read: 1 without _gtFine_labelIds"
    ]


def test_a_list_chooses_and_orders(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg", "masks/b.png", "masks/c.png")
    (tmp_path / "val.txt").write_text("c\nb.jpg\n")
    args = {"lists": "{split}.txt"}
    assert found(tmp_path, "val", **args) == {
        "c": ["images/c.jpg", "masks/c.png"],
        "b": ["images/b.jpg", "masks/b.png"],
    }
    assert found(tmp_path, "val", masks=None, **args) == {"c": ["images/c.jpg", None], "b": ["images/b.jpg", None]}
    (tmp_path / "val.txt").write_text("images/c.jpg masks/b.png\nb\n")  # a line may name another mask
    assert found(tmp_path, "val", **args) == {
        "c": ["images/c.jpg", "masks/b.png"],
        "b": ["images/b.jpg", "masks/b.png"],
    }
    (tmp_path / "train.txt").touch()
    with pytest.raises(DataError, match=rf"^Folders: the split train is empty: no images in {tmp_path}/train.txt$"):
        layout(tmp_path, **args).files("train")


@pytest.mark.parametrize("masks", [".", "./", "images/.."])
def test_one_folder_needs_an_ending(tmp_path, masks):
    with pytest.raises(ValueError, match=r"^Folders: ") as error:
        layout(tmp_path, images=".", masks=masks, shares=Shares(val=0.5))
    if ".." not in masks:
        assert str(error.value) == (
            "Folders: images and masks are both in '.'; set mask_suffix to the ending of the masks, such as _mask"
        )


@pytest.mark.parametrize("group", [r"(p\d)_", "groups.csv"])
def test_each_image_of_a_split_has_its_group(tmp_path, group):
    names = [f"p{patient}_{image}" for patient in (2, 1, 3) for image in "ab"]
    touch(tmp_path, *(f"{folder}/{name}.png" for folder in ("images", "masks") for name in names))
    (tmp_path / "groups.csv").write_text("name,group\n" + "".join(f"{name},{name[:2]}\n" for name in names))
    for split, listed in (("train", ["p2_b", "p1_a", "p2_a"]), ("val", ["p3_a"])):
        (tmp_path / f"{split}.txt").write_text("\n".join(listed))
    for args in ({"lists": "{split}.txt"}, {"shares": Shares(val="50%")}):
        for split in ("train", "val"):
            files, _, groups = layout(tmp_path, group=group, **args).files(split)
            assert groups == tuple(name[:2] for name in files)
            assert layout(tmp_path, **args).files(split).groups is None
