"""Published datasets: what makes one refuse a tree or an argument, the message, and what it asks for."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from following import Row
from trees import SIZE, mask, sbd, voc

from kd.data import PascalVOC


def opened(dataset: Any, root: str = ".", split: str = "train", **args: Any) -> None:
    """Read all images of a split."""
    data = dataset(root, split, **args)
    for index in range(len(data)):
        data[index, 0]


def on_two_processes() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kd.distributed.world", lambda: 2)
        opened(PascalVOC, download=True)


MASK = Path("VOCdevkit/VOC2012/SegmentationClass/2007_000003.png")
ROWS = [
    Row(
        "PascalVOC: no data/VOCdevkit/VOC2012/JPEGImages; . contains voc/; unpack VOCtrainval_11-May-2012.tar of "
        "host.robots.ox.ac.uk/pascal/VOC/voc2012, or set data.args.download=true, and set data.args.root to the folder "
        "that holds VOCdevkit/VOC2012/{JPEGImages, SegmentationClass, ImageSets/Segmentation}",
        lambda: (voc(Path("voc")), opened(PascalVOC, "data")),
        lambda text: opened(PascalVOC, "voc"),
    ),
    Row(
        "PascalVOC: no benchmark_RELEASE/dataset/train.txt; . contains VOCdevkit/; get SBD, benchmark.tgz of "
        "home.bharathh.info/pubs/codes/SBD, or set data.args.download=true, and set data.args.root to the folder that "
        "holds VOCdevkit and benchmark_RELEASE/dataset/{cls, train.txt, val.txt}",
        lambda: (voc(Path()), opened(PascalVOC, train="augmented")),
        lambda text: (sbd(Path(), ["2008_000001"]), opened(PascalVOC, train="augmented")),
    ),
    Row(
        "PascalVOC: the images of SBD belong to 2012; set year: 2012, or train: trainval",
        lambda: opened(PascalVOC, train="augmented", year=2007),
        lambda text: (voc(Path(), 2007, train=20), opened(PascalVOC, train="trainval", year=2007)),
    ),
    Row(
        "PascalVOC: the test labels of 2012 are not public; use val, or year: 2007",
        lambda: (voc(Path()), opened(PascalVOC, split="test")),
        lambda text: (
            opened(PascalVOC, split="val"),
            voc(Path(), 2007, test=2),
            opened(PascalVOC, split="test", year=2007),
        ),
    ),
    Row(
        "PascalVOC: no VOCdevkit/VOC2012; download it with one process first: kd check RECIPE data.args.download=true",
        on_two_processes,
        lambda text: (voc(Path()), on_two_processes()),
    ),
    Row(
        "first at row 0, column 0; use the masks as they were published",
        lambda: (voc(Path()), shutil.copy(MASK, "kept.png"), mask(MASK, np.full(SIZE, 99)), opened(PascalVOC)),
        lambda text: (shutil.copy("kept.png", MASK), opened(PascalVOC)),
    ),
]
