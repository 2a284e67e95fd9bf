import numpy as np
import pytest
from PIL import Image
from samples import write_pairs

from kd.data import Folders
from kd.errors import DataError

RNG = np.random.default_rng(0)
NAMES = ["background", "cell", "wall"]


def example(root):
    write_pairs(root / "images", root / "masks", (0, 1, 2, 255))
    return {"root": str(root), "classes": ["a", "b", "c"], "val": 0.25, "test": 0.25}


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


def grow(root, count=10, images="images", masks="masks", *, values=(0, 1, 2), size=(6, 8), first=0):
    """A data set of `count` pairs; image i is filled with i, and its mask holds `values`."""
    for i in range(first, first + count):
        save(root / images / f"{i:02}.png", np.full((*size, 3), i, dtype=np.uint8))
        mask = np.resize(np.array(values, dtype=np.uint8), size)
        save(root / masks / f"{i:02}.png", mask)
    return root


def test_shares_are_disjoint_whole_and_the_same_everywhere(tmp_path):
    grow(tmp_path)
    parts = {
        split: {Folders(str(tmp_path), split, classes=NAMES, val=0.2, test="30%").names[i] for i in range(count)}
        for split, count in (("train", 5), ("val", 2), ("test", 3))
    }
    assert len(parts["train"] | parts["val"] | parts["test"]) == 10
    assert {split: len(names) for split, names in parts.items()} == {"train": 5, "val": 2, "test": 3}
    # worked out from SHA-free BLAKE2b digests of the stems: the order must never change between versions
    from hashlib import blake2b

    stems = sorted((f"{i:02}" for i in range(10)), key=lambda stem: blake2b(stem.encode()).hexdigest())
    assert {name[-6:-4] for name in parts["val"]} == set(stems[:2])


def test_the_groups_of_images_are_those_that_intervals_rest_on(tmp_path):
    grow(tmp_path, 6)
    args = {"classes": NAMES, "val": "50%"}
    for masks in ("masks", None):
        data = Folders(str(tmp_path), "val", group=r"0([0-5])", masks=masks, **args)
        assert data.groups == tuple(name[-5] for name in data.names)
        assert len(data.groups) == len(data) == 3
    assert not hasattr(Folders(str(tmp_path), "val", **args), "groups")


def test_folders_a_split(tmp_path):
    grow(tmp_path, 3, "train/images", "train/masks")
    grow(tmp_path, 2, "val/images", "val/masks", first=3)
    args = {"classes": NAMES, "images": "{split}/images", "masks": "{split}/masks"}
    assert len(Folders(str(tmp_path), "train", **args)) == 3
    sample = Folders(str(tmp_path), "val", **args)[1, 0]
    assert sample.image[0, 0, 0] == 4
    assert sample.labels.tolist() == np.resize([0, 1, 2], (6, 8)).tolist()
    assert sample.name == str(tmp_path / "val/images/04.png")


def test_lists(tmp_path):
    grow(tmp_path)
    (tmp_path / "train.txt").write_text("07\n02\n05\n")
    (tmp_path / "val.txt").write_text("03.png\n")
    (tmp_path / "masks/09.png").unlink()  # not in a list
    train = Folders(str(tmp_path), "train", classes=NAMES, lists="{split}.txt")
    assert [int(train[i, 0].image[0, 0, 0]) for i in range(3)] == [7, 2, 5]
    assert len(Folders(str(tmp_path), "val", classes=NAMES, lists="{split}.txt")) == 1


def test_list_entries_do_not_leave_the_folder(tmp_path):
    grow(tmp_path / "data")
    save(tmp_path / "secret.png", np.zeros((6, 8, 3), dtype=np.uint8))
    (tmp_path / "data/train.txt").write_text("../../secret\n/etc/hostname\n01\n")
    with pytest.raises(DataError) as error:
        Folders(str(tmp_path / "data"), "train", classes=NAMES, lists="{split}.txt")
    assert str(error.value).splitlines() == [
        f"{tmp_path}/data/train.txt:1: no image named 'secret' in {tmp_path}/data/images",
        f"{tmp_path}/data/train.txt:2: no image named 'hostname' in {tmp_path}/data/images",
    ]


@pytest.mark.parametrize("argument", ["images", "masks", "lists"])
@pytest.mark.parametrize("path", ["../other", "/etc", "a/../../b"])
def test_arguments_do_not_leave_root(tmp_path, argument, path):
    grow(tmp_path)
    (tmp_path / "train.txt").write_text("01\n")
    with pytest.raises(ValueError, match="leads out of root") as error:
        Folders(str(tmp_path), "train", **({"classes": NAMES, "lists": "train.txt"} | {argument: path}))
    assert str(error.value) == f"Folders: {argument} '{path}' leads out of root; give a path inside root"


def test_suffix_of_masks(tmp_path):
    grow(tmp_path, 4)
    for path in list((tmp_path / "masks").iterdir()):
        path.rename(path.with_stem(f"{path.stem}_HC_Annotation"))
    save(tmp_path / "masks/notes.png", np.zeros((2, 2), dtype=np.uint8))
    assert len(Folders(str(tmp_path), "val", classes=NAMES, val=0.5, mask_suffix="_HC_Annotation")) == 2


def test_images_without_masks(tmp_path):
    grow(tmp_path, 4)
    sample = Folders(str(tmp_path), "train", classes=NAMES, val=0.5, masks=None)[0, 0]
    assert sample.labels is None


def test_one_channel(tmp_path):
    grow(tmp_path, 4)  # three equal channels
    data = Folders(str(tmp_path), "train", classes=NAMES, val=0.5, channels=1)
    assert data.in_channels == 1
    assert data[0, 0].image.shape == (1, 6, 8)


def test_values_are_translated(tmp_path):
    grow(tmp_path, 4, values=(0, 85, 170, 255))
    values = {0: "background", 85: "cell", 170: "wall", 255: "ignore"}
    labels = Folders(str(tmp_path), "train", classes=NAMES, val=0.5, values=values)[0, 0].labels
    assert labels.tolist() == np.resize([0, 1, 2, 255], (6, 8)).tolist()


def test_colours_by_a_class_map_in_csv_and_yaml(tmp_path):
    grow(tmp_path, 4)
    colors = {"background": (0, 0, 0), "cell": (200, 10, 10), "wall": (0, 0, 255)}
    for path in (tmp_path / "masks").iterdir():
        save(path, np.array(list(colors.values()), dtype=np.uint8)[np.resize([0, 1, 2], (6, 8))])
    (tmp_path / "classes.csv").write_text(
        "name,r,g,b\n" + "".join(f"{n},{r},{g},{b}\n" for n, (r, g, b) in colors.items())
    )
    (tmp_path / "classes.yaml").write_text("".join(f"{n}: {list(rgb)}\n" for n, rgb in colors.items()))
    for classes in (
        str(tmp_path / "classes.csv"),
        str(tmp_path / "classes.yaml"),
        {n: list(c) for n, c in colors.items()},
    ):
        data = Folders(str(tmp_path), "train", classes=classes, val=0.5)
        assert data.colors == tuple(colors.values())
        assert data[0, 0].labels.tolist() == np.resize([0, 1, 2], (6, 8)).tolist()


def test_an_unknown_colour(tmp_path):
    grow(tmp_path, 4)
    for path in (tmp_path / "masks").iterdir():
        save(path, np.full((6, 8, 3), (250, 0, 0), dtype=np.uint8))
    data = Folders(str(tmp_path), "train", classes={"sky": [0, 0, 255], "car": [255, 0, 0]}, val=0.5)
    with pytest.raises(DataError) as error:
        data[0, 0]
    mask = data.names[0].replace("images", "masks")
    assert str(error.value) == (
        f"{mask}: colour (250, 0, 0) (96 pixels) in no class, counted in 2 masks, first at row 0, column 0; the "
        'nearest colour in classes is (255, 0, 0); in data.args set values: {"250, 0, 0": ignore}, or a class in place '
        "of ignore"
    )


def test_colour_without_a_class_map(tmp_path):
    grow(tmp_path, 2)
    for path in (tmp_path / "masks").iterdir():
        save(path, np.full((6, 8, 3), (250, 0, 0), dtype=np.uint8))
    data = Folders(str(tmp_path), "train", classes=NAMES, val=0.5)
    with pytest.raises(DataError) as error:
        data[0, 0]
    assert str(error.value).endswith(
        ".png: a mask in colour, but the classes are numbers; in data.args set classes: {background: [r, g, b], "
        "cell: [r, g, b], …}"
    )


def test_palette_masks_give_indices(tmp_path):
    grow(tmp_path, 4)
    for path in (tmp_path / "masks").iterdir():
        image = Image.fromarray(np.resize(np.array([0, 1, 2, 255], dtype=np.uint8), (6, 8)), mode="P")
        image.putpalette([9, 8, 7] * 256)
        image.save(path)
    labels = Folders(str(tmp_path), "train", classes=NAMES, val=0.5)[0, 0].labels
    assert labels.tolist() == np.resize([0, 1, 2, 255], (6, 8)).tolist()


def black_and_white(path, kind):
    mask = np.zeros((10, 10), dtype=np.uint8)
    mask.flat[:23] = 255
    if kind == "palette":
        image = Image.fromarray(mask, mode="P")
        image.putpalette([i for i in range(256) for _ in range(3)])
        image.save(path)
    else:
        save(path, mask, {"grey": "L", "rgb": "RGB"}[kind])


@pytest.mark.parametrize("kind", ["grey", "rgb", "palette"])
def test_black_and_white_masks_are_never_read_as_all_ignored(tmp_path, kind):
    grow(tmp_path, 4, size=(10, 10))
    for path in (tmp_path / "masks").iterdir():
        black_and_white(path, kind)
    args = {"classes": ["background", "fetus"], "val": 0.5}
    with pytest.raises(DataError) as error:
        Folders(str(tmp_path), "train", **args)
    assert str(error.value) == (
        "masks: only 0 and 255 occur in 4 masks, and 255 is ignored by default: the whole foreground (23.0 % of the "
        "pixels) would be ignored; in data.args set values: {0: background, 255: fetus}"
    )
    data = Folders(str(tmp_path), "train", **args, values={0: "background", 255: "fetus"})
    assert data[0, 0].labels.flatten().tolist() == [1] * 23 + [0] * 77
    ignored = Folders(str(tmp_path), "train", **args, values={0: "background", 255: "ignore"})  # stated by the user
    assert ignored[0, 0].labels.flatten().tolist() == [255] * 23 + [0] * 77


def test_255_is_ignored_where_other_values_occur(tmp_path):
    grow(tmp_path, 4, values=(0, 255))
    save(tmp_path / "masks/03.png", np.resize(np.array([0, 1, 255], dtype=np.uint8), (6, 8)))
    (tmp_path / "all.txt").write_text("00\n01\n02\n03\n")
    data = Folders(str(tmp_path), "train", classes=NAMES, lists="all.txt")
    assert data[0, 0].labels.unique().tolist() == [0, 255]


def test_a_label_out_of_range(tmp_path):
    grow(tmp_path, 4, values=(0, 1, 2, 3))
    data = Folders(str(tmp_path), "train", classes=NAMES, val=0.5)
    with pytest.raises(DataError) as error:
        data[0, 0]
    mask = data.names[0].replace("images", "masks")
    assert str(error.value) == (
        f"{mask}: label 3 (24 pixels) in no class (known: 0 … 2, ignored 255), counted in 2 masks, first at row 0, "
        "column 3; the masks hold 0 … 3 for 3 classes: 0 is probably to be ignored; in data.args set values: {0: "
        "ignore, 1: background, 2: cell, 3: wall}"
    )


def test_missing_folder(tmp_path):
    grow(tmp_path)
    with pytest.raises(DataError) as error:
        Folders(str(tmp_path), "train", classes=NAMES, images="frames", val=0.5)
    assert str(error.value) == f"{tmp_path}/frames: no such folder; {tmp_path} contains images/, masks/"


def test_missing_root(tmp_path):
    with pytest.raises(DataError) as error:
        Folders(str(tmp_path / "none"), "train", classes=NAMES, val=0.5)
    assert str(error.value) == f"{tmp_path}/none/images: no such folder; {tmp_path} contains nothing"


def test_missing_list(tmp_path):
    grow(tmp_path)
    with pytest.raises(DataError, match=r"train.txt: no such file$"):
        Folders(str(tmp_path), "train", classes=NAMES, lists="{split}.txt")


def test_images_and_masks_that_do_not_pair(tmp_path):
    grow(tmp_path, 4)
    (tmp_path / "masks/01.png").unlink()
    (tmp_path / "images/02.png").unlink()
    save(tmp_path / "masks/03.png", np.zeros((3, 8), dtype=np.uint8))
    with pytest.raises(DataError) as error:
        Folders(str(tmp_path), "train", classes=NAMES, val=0.5)
    assert str(error.value).splitlines() == [
        f"{tmp_path}/images/01.png: no mask named 01 in {tmp_path}/masks",
        f"{tmp_path}/masks/02.png: no image named 02 in {tmp_path}/images",
    ]


def test_empty_split(tmp_path):
    grow(tmp_path)
    with pytest.raises(DataError) as error:
        Folders(str(tmp_path), "test", classes=NAMES, val=0.5)
    assert str(error.value) == (
        f"Folders: the split test is empty: its share of the 10 images in {tmp_path}/images is 0; add images or "
        "raise the share"
    )
    (tmp_path / "deep" / "a").mkdir(parents=True)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError) as error:
        Folders(str(tmp_path), "train", classes=NAMES, images="deep", masks="none", val=0.5)
    assert str(error.value) == (
        f"Folders: the split train is empty: no images in {tmp_path}/deep; {tmp_path}/deep contains a/; files read: "
        ".png, .jpg, .jpeg, .jfif, .bmp, .tif, .tiff, .webp, .gif, .avif, .jp2"
    )
    (tmp_path / "train.txt").touch()
    with pytest.raises(DataError) as error:
        Folders(str(tmp_path), "train", classes=NAMES, lists="{split}.txt")
    assert str(error.value) == f"Folders: the split train is empty: no images in {tmp_path}/train.txt"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {},
            'Folders: no split is defined; write val: 20%, or folds: 5 and fold: 0, or lists: "{split}.txt", or '
            'images: "{split}/images" and masks: "{split}/masks"',
        ),
        (
            {"val": 0.2, "lists": "a.txt"},
            "Folders: val, test and folds divide one folder; remove them, or remove lists and {split}",
        ),
        ({"val": 20}, "Folders: val must be a share of the images, such as 0.2 or 20%, got 20"),
        ({"val": "a fifth"}, "Folders: val must be a share of the images, such as 0.2 or 20%, got 'a fifth'"),
        ({"val": 0.6, "test": 0.4}, "Folders: val 0.6 and test 0.4 leave no image for training; lower them"),
        ({"val": 0.2, "channels": 2}, "Folders: channels must be 1 or 3, got 2; for others state ranges: [low, high]"),
    ],
)
def test_mistakes_in_a_recipe(tmp_path, args, message):
    grow(tmp_path)
    with pytest.raises(ValueError, match=r"^Folders: ") as error:
        Folders(str(tmp_path), "train", classes=NAMES, **args)
    assert str(error.value) == message
    assert not isinstance(error.value, DataError)


def test_odd_names(tmp_path):
    root = tmp_path / "with spaces ü"
    for name in ("eins zwei.png", "größe.png", "a.b.c.png"):
        save(root / "images" / name, np.zeros((4, 4, 3), dtype=np.uint8))
        save(root / "masks" / name, np.eye(4, dtype=np.uint8))
    assert len(Folders(str(root), "train", classes=NAMES, val="0%")) == 3


def test_real_grey_masks_of_0_and_255(shared_data):
    args = {"root": str(shared_data / "membrane"), "classes": ["membrane", "inside"], "val": "25%", "channels": 1}
    with pytest.raises(DataError, match=r"masks: only 0 and 255 occur in \d+ masks, and 255 is ignored by default"):
        Folders(split="train", **args)
    data = Folders(split="train", **args, values={0: "membrane", 255: "inside"})
    sample = data[0, 0]
    assert len(data) == 18
    assert sample.image.shape == (1, 512, 512)
    assert sample.labels.unique().tolist() == [0, 1]


TURNED = {  # EXIF orientation -> the pixels that a camera stores, from the upright ones
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: np.rot90,
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("drawn", ["upright", "on the stored pixels", "with a tag of its own"])
@pytest.mark.parametrize("turn", TURNED)
def test_an_image_and_its_mask_are_turned_upright_together(tmp_path, turn, drawn):
    upright = np.resize(np.array([0, 1, 2, 2, 1], dtype=np.uint8), (6, 8))
    exif = Image.Exif()
    for number, tag in enumerate((turn, 6, 1, 1)):  # the second shows how all masks were drawn
        exif[0x0112] = tag
        stored = np.ascontiguousarray(TURNED[tag](upright) if tag > 1 else upright)
        save(tmp_path / f"images/{number}.png", stored)
        Image.fromarray(stored).save(tmp_path / f"images/{number}.png", exif=exif)
        mask = upright if drawn == "upright" else stored
        save(tmp_path / f"masks/{number}.png", mask)
        if drawn == "with a tag of its own":
            Image.fromarray(mask).save(tmp_path / f"masks/{number}.png", exif=exif)
    (tmp_path / "all.txt").write_text("0\n1\n2\n3\n")
    data = Folders(str(tmp_path), "train", classes=NAMES, lists="all.txt", channels=1)
    for index in range(4):
        assert data[index, 0].labels.tolist() == data[index, 0].image[0].tolist() == upright.tolist()
    assert len(data.notes) == (0 if drawn == "with a tag of its own" else 1)


def test_what_the_user_should_know_about_the_files(tmp_path):
    grow(tmp_path, 4)
    save(tmp_path / "masks/01.png", np.ones((6, 8, 3), dtype=np.uint8))
    (tmp_path / "images/Thumbs.db").touch()
    (tmp_path / "all.txt").write_text("00\n01\n02\n")
    data = Folders(str(tmp_path), "train", classes=NAMES, lists="all.txt")
    assert data.notes == (
        f"{tmp_path}/images: not read: 1 .db",
        f"masks of several kinds: 2 grey (such as {tmp_path}/masks/00.png), 1 RGB (such as {tmp_path}/masks/01.png); "
        "classes and values decide for all: they hold numbers",
    )


def test_a_val_split_of_background_and_ignored_pixels_alone(tmp_path):
    grow(tmp_path, 3)
    grow(tmp_path, 2, values=(0, 255), first=3)
    (tmp_path / "train.txt").write_text("00\n01\n02\n")
    (tmp_path / "val.txt").write_text("03\n04\n")
    for classes in (NAMES, ["background", "cell"]):
        val = Folders(str(tmp_path), "val", classes=classes, lists="{split}.txt")
        assert val[0, 0].labels.unique().tolist() == [0, 255]
