"""The trees of published datasets, with the kinds of files that they have: for the tests of datasets and recipes."""

import numpy as np
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
