"""SUIM: underwater photographs, 8 classes."""

from pathlib import Path

import numpy as np
from torch import Tensor

from kd.data.datasets.published import Found, Part, Published, Release, find, numbered
from kd.data.images.read import read_mask
from kd.data.masks.encoding import Coded, labels_of, lossy_mask
from kd.data.masks.meaning import Meaning
from kd.data.splits.shares import Share, Shares
from kd.errors import DataError

# class i has the colour whose red, green and blue are the bits of i
NAMES = (
    "background", "diver", "plant", "wreck", "robot", "reef", "fish", "sea floor",
)  # fmt: skip
COLORS = tuple((255 * (i >> 2 & 1), 255 * (i >> 1 & 1), 255 * (i & 1)) for i in range(8))
HALF = 128  # from this value up a channel counts as 255


def SUIM(root: str, split: str, *, val: Share = "10%") -> Published:  # noqa: N802  # recipes call it like a class
    """SUIM: 1,525 underwater photographs with masks of 8 classes for training, 110 for testing.

    "val" is a share of the training images, chosen by a hash of their names; "test" is the authors' own. Masks are
    pictures whose colours are the corners of the RGB cube; as in the authors' code, a channel counts as full from its
    middle up. Masks of another size than their image, about 80, are stretched to it, as there.

    Source: Islam et al., "Semantic Segmentation of Underwater Imagery: Dataset and Benchmark", IROS 2020,
        arXiv:2004.01241. Published by the Interactive Robotics and Vision Lab, University of Minnesota, for research.

    Args:
        root: the folder that contains `train_val/` and `TEST/`.
        split: "train", "val" or "test".
        val: share of the images of `train_val` that are held out as "val", 0.1 or 10%.

    Raises:
        ValueError: `val` is no share.
        DataError: a folder is missing; an image has no mask; the split is empty; (by item) a file is damaged.
    """
    shares = Shares(val=val, owner="SUIM")
    folder = "TEST" if split == "test" else "train_val"
    items, notes = find(_RELEASE, Part(f"{folder}/images", f"{folder}/masks", read=read_corners), root)
    if split != "test":
        items = {name: items[name] for name in shares.of(list(items), split)}
    return Published(_RELEASE, split, [Found(items, notes)])


def read_corners(path: Path, meaning: Meaning, turn: int) -> Tensor:
    """The labels uint8 (H, W) of a mask whose colours are the corners of the RGB cube.

    Raises:
        DataError: the mask cannot be read, is in a lossy encoding, or not in colour.
    """
    stored = read_mask(path, turn)
    if stored.lossy:
        raise DataError(f"{path}: {lossy_mask(stored.lossy, meaning)}")
    pixels = stored.palette[stored.values] if stored.palette is not None else stored.values
    if pixels.ndim != 3:
        raise DataError(f"{path}: not in colour; {meaning.fix}")
    red, green, blue = np.moveaxis(pixels >= HALF, -1, 0)
    return labels_of(Coded((red * 4 + green * 2 + blue).astype(np.uint8), None), meaning, path)


_RELEASE = Release(
    "SUIM",
    COLORS,
    numbered(NAMES),
    "train_val/{images, masks} and TEST/{images, masks}",
    "get SUIM from irvlab.cs.umn.edu/resources/suim-dataset, unpack it",
    stretched=True,
)
