"""The trees of published datasets, with the kinds of files that they have: for the tests of datasets and recipes."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

SIZE = (24, 32)  # (H, W) of every image, unless a test gives another


def picture(path, seed=0, size=SIZE, channels=3):
    """An image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, channels) if channels > 1 else size
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)


def mask(path, values, palette=None):
    """A mask as it is given: indices, with a palette if there is one, or colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette is not None:
        image = image.convert("P")
        image.putpalette(np.ravel(palette).tolist())
    image.save(path)


def stripes(*values, size=SIZE):
    """Labels in stripes of equal width."""
    return np.array(values)[np.arange(size[1]) * len(values) // size[1]][None].repeat(size[0], 0)


def voc(root, year=2012, train=8, val=4, test=0):
    """VOC's tree: train, then val, then test, with an image that no list has. An object is the class of its number."""
    base = root / f"VOCdevkit/VOC{year}"
    palette = np.random.default_rng(1).integers(0, 256, (256, 3))  # only the indices count
    names = {"train": range(train), "val": range(train, train + val), "test": range(train + val, train + val + test)}
    for split, numbers in names.items():
        for number in numbers:
            picture(base / f"JPEGImages/2007_{number:06}.jpg", number)
            labels = stripes(0, 255, number % 21)  # a border between object and background
            mask(base / f"SegmentationClass/2007_{number:06}.png", labels, palette)
        if numbers:
            listed = base / f"ImageSets/Segmentation/{split}.txt"
            listed.parent.mkdir(parents=True, exist_ok=True)
            listed.write_text("".join(f"2007_{number:06}\n" for number in numbers))
    picture(base / "JPEGImages/2008_000001.jpg", 99)
    return root


def sbd(root, names, folder="benchmark_RELEASE/dataset"):
    """SBD's tree: the first half of the names is its train."""
    half = len(names) // 2
    (root / folder / "cls").mkdir(parents=True)
    for name in names:
        content = {"Boundaries": np.zeros((20, 1)), "Segmentation": np.full(SIZE, 15, np.uint8)}
        savemat(root / folder / f"cls/{name}.mat", {"GTcls": content}, do_compression=True)
    (root / folder / "train.txt").write_text("\n".join(names[:half]))
    (root / folder / "val.txt").write_text("\n".join(names[half:]))
    return root


def suim(root, train=10, test=3):
    """SUIM's tree: JPEG images, BMP masks of the corners of the RGB cube, a little off."""
    for folder, count in (("train_val", train), ("TEST", test)):
        for number in range(count):
            picture(root / folder / f"images/d_r_{number}_.jpg", number + 1000 * (folder == "TEST"))
            colors = np.array([[0, 0, 0], [0, 0, 255], [250, 4, 255], [255, 255, 255]])
            mask(root / folder / f"masks/d_r_{number}_.bmp", colors[stripes(0, 1, 2, 3)])
    return root


def ellipse(size, centre, radii):
    """The pixels inside an ellipse; centre and radii are (row, column)."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1


def outline(inside):
    """The pixels of a region that have a neighbour outside it, within the image."""
    padded = np.pad(inside, 1, mode="edge")
    around = [
        padded[1 + i : padded.shape[0] - 1 + i, 1 + j : padded.shape[1] - 1 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)
    ]
    return inside & ~np.all(around, axis=0)


def hc18(root, pregnancies=12, size=(48, 64), test=2):
    """HC18's tree: grey images, two of each third pregnancy, and outlines; pixels of 0.1, 0.11, … mm."""
    names = [f"{n:03}_{k}HC" for n in range(pregnancies) for k in (("", "2") if n % 3 == 0 else ("",))]
    for number, name in enumerate(names):
        picture(root / f"training_set/{name}.png", number, size, channels=1)
        inside = ellipse(size, (size[0] / 2, size[1] / 2), (size[0] / 3, size[1] / 4))
        mask(root / f"training_set/{name}_Annotation.png", 255 * outline(inside))
    rows = [f"{name}.png,{0.1 + 0.01 * number:.2f},44.3" for number, name in enumerate(names)]
    header = "filename,pixel size(mm),head circumference (mm)\n"
    (root / "training_set_pixel_size_and_HC.csv").write_text(header + "\n".join(rows) + "\n")
    for number in range(test):
        picture(root / f"test_set/{number:03}_HC.png", 1000 + number, size, channels=1)
    rows = [f"{number:03}_HC.png,0.2" for number in range(test)]
    (root / "test_set_pixel_size.csv").write_text("filename,pixel size(mm)\n" + "\n".join(rows) + "\n")
    return root


def cityscapes(root, train=4, val=3, test=2, extra=0, size=SIZE):
    """Cityscapes' tree: a city a split, label ids, and what lies beside them."""
    parts = [("train", "aachen", train, "Fine"), ("val", "lindau", val, "Fine"), ("test", "bonn", test, "Fine")]
    for split, city, count, kind in [*parts, ("train_extra", "erlangen", extra, "Coarse")]:
        for number in range(count):
            stem = f"{city}_{number:06}_000019"
            picture(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", number, size)
            folder = root / f"gt{kind}/{split}/{city}"
            mask(folder / f"{stem}_gt{kind}_labelIds.png", stripes(7, 26, 4, 33, size=size))
            mask(folder / f"{stem}_gt{kind}_color.png", np.zeros((*size, 3)))
            Image.fromarray(np.full(size, 26001, np.uint16)).save(folder / f"{stem}_gt{kind}_instanceIds.png")
            (folder / f"{stem}_gt{kind}_polygons.json").write_text("{}")
    return root


def ade20k(root, train=4, val=3):
    """ADE20K's tree: grey masks of the numbers 0 … 150."""
    for split, prefix, count in (("training", "train", train), ("validation", "val", val)):
        for number in range(count):
            picture(root / f"ADEChallengeData2016/images/{split}/ADE_{prefix}_{number:08}.jpg", number)
            path = root / f"ADEChallengeData2016/annotations/{split}/ADE_{prefix}_{number:08}.png"
            mask(path, stripes(0, 1, 20 + number, 150))
    return root


CAMVID_COLORS = ((128, 128, 128), (128, 0, 192), (64, 128, 192), (0, 0, 0))  # sky, lane markings, SUV, void


def camvid_full(root, train=4, val=3, test=3):
    """CamVid's tree as its authors publish it, with SegNet's lists of frames."""
    number = 0
    for split, count in (("train", train), ("val", val), ("test", test)):
        lines = []
        for _ in range(count):
            stem = f"0016E5_{number:05}"
            picture(root / f"701_StillsRaw_full/{stem}.png", number)
            mask(root / f"LabeledApproved_full/{stem}_L.png", np.array(CAMVID_COLORS)[stripes(0, 1, 2, 3)])
            lines.append(f"/SegNet/CamVid/{split}/{stem}.png /SegNet/CamVid/{split}annot/{stem}.png\n")
            number += 1
        (root / f"{split}.txt").write_text("".join(lines))
    return root


def patches(root, count=8, unlabelled=4):
    """Images and masks of seven colours that a class map names, and more images."""
    colors = np.array([[30 * index, 250 - 30 * index, 7 * index] for index in range(7)])
    rows = [f"class {index},{red},{green},{blue}" for index, (red, green, blue) in enumerate(colors.tolist())]
    for number in range(count):
        picture(root / f"images/{number}.png", number, (64, 64))
        mask(root / f"masks/{number}.png", colors[stripes(*range(7), size=(64, 64))])
    for number in range(unlabelled):
        picture(root / f"unlabelled/{number}.png", 100 + number, (64, 64))
    (root / "class_mapping.csv").write_text("name,r,g,b\n" + "\n".join(rows) + "\n")
    return root


def _file(values, kind):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8)).save(stream, kind)
    return {"bytes": stream.getvalue(), "path": None}


def saved(root, labels=None, splits=("train", "validation", "test"), kind="PNG"):
    """A data set that Hugging Face's `datasets` saved: 8 images a split; masks hold 0, 1, 2 and 255 unless given."""
    datasets = pytest.importorskip("datasets")
    labels = stripes(0, 1, 2, 255) if labels is None else labels
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Image(), "id": datasets.Value("int64")})
    parts = {}
    for number, split in enumerate(splits):
        random = np.random.default_rng(number)
        images = [_file(random.integers(0, 256, (*SIZE, 3)), "JPEG") for _ in range(8)]
        rows = {"image": images, "label": [_file(labels, kind)] * 8, "id": list(range(8))}
        parts[split] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(parts).save_to_disk(str(root))
    return root
