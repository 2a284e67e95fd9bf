import zlib
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from scipy.io import savemat
from trees import mask, picture, sbd, stripes, voc

from kd.data import PascalVOC
from kd.data.datasets.pascal_voc import COLORS, NAMES
from kd.errors import DataError


def example(root):
    voc(root, 2007, train=8, val=8, test=8)
    return {"root": str(root), "year": 2007}


def stems(data):
    return [name.rpartition("/")[2].removesuffix(".jpg") for name in data.names]


def test_a_split_is_that_of_its_list_and_borders_are_ignored(tmp_path):
    voc(tmp_path)
    train, val = (PascalVOC(str(tmp_path), split) for split in ("train", "val"))
    assert stems(train) == [f"2007_{number:06}" for number in range(8)]
    assert stems(val) == [f"2007_{number:06}" for number in range(8, 12)]
    sample = val[0, 0]
    assert sample.image.shape == (3, 24, 32)
    assert sample.labels[0].tolist() == 11 * [0] + 11 * [255] + 10 * [8]
    assert val.files(0) == tuple(
        tmp_path / "VOCdevkit/VOC2012" / path
        for path in ("JPEGImages/2007_000008.jpg", "SegmentationClass/2007_000008.png")
    )
    assert (val.class_names[8], val.colors[8]) == ("cat", (64, 0, 0))


def test_trainval_holds_out_a_tenth_and_states_what_that_means(tmp_path):
    voc(tmp_path, train=12, val=8)
    train, val = (PascalVOC(str(tmp_path), split, train="trainval") for split in ("train", "val"))
    assert (len(train), len(val)) == (18, 2)
    assert {*stems(train), *stems(val)} == {f"2007_{number:06}" for number in range(20)}
    assert train.notes == ()
    assert val.notes == ("val is 10% of VOC's trainval: its scores are not comparable with those on VOC's val",)


def test_the_augmented_images_are_those_of_train_and_of_sbd_that_are_not_in_val(tmp_path):
    voc(tmp_path, train=2, val=2)
    for number in (20, 21):
        picture(tmp_path / f"VOCdevkit/VOC2012/JPEGImages/2008_{number:06}.jpg", number)
    sbd(tmp_path, ["2007_000001", "2008_000020", "2007_000003", "2008_000021"])  # one of train, one of val
    train, val = (PascalVOC(str(tmp_path), split, train="augmented") for split in ("train", "val"))
    assert stems(train) == ["2007_000000", "2007_000001", "2008_000020", "2008_000021"]
    assert stems(val) == ["2007_000002", "2007_000003"]
    assert set(train.labels(1).unique().tolist()) == {0, 1, 255}  # VOC's mask, where there is one
    assert train[2, 0].labels.unique().tolist() == [15]  # SBD's
    assert train.files(3)[1] == tmp_path / "benchmark_RELEASE/dataset/cls/2008_000021.mat"


def test_sbd_where_torchvision_unpacks_it(tmp_path):
    voc(tmp_path, train=2, val=2)
    sbd(tmp_path, ["2007_000001", "2008_000001"], "sbd")
    assert stems(PascalVOC(str(tmp_path), "train", train="augmented")) == ["2007_000000", "2007_000001", "2008_000001"]


def test_sbd_as_png(tmp_path):
    base = voc(tmp_path, train=2, val=2) / "VOCdevkit/VOC2012"
    picture(base / "JPEGImages/2008_000020.jpg")
    for name in ("2007_000001", "2007_000003", "2008_000020", "2009_000001"):  # one of train, of val, none of an image
        mask(base / f"SegmentationClassAug/{name}.png", stripes(0, 15, 255))
    data = PascalVOC(str(tmp_path), "train", train="augmented", download=True)  # nothing is missing
    assert stems(data) == ["2007_000000", "2007_000001", "2008_000020"]
    assert data[2, 0].labels.unique().tolist() == [0, 15, 255]
    assert data[1, 0].labels.unique().tolist() == [0, 1, 255]


def test_a_missing_tree_is_named_with_what_it_must_hold(tmp_path):
    (tmp_path / "VOC2012").mkdir()
    with pytest.raises(DataError) as error:
        PascalVOC(str(tmp_path), "train")
    assert str(error.value) == (
        f"PascalVOC: no {tmp_path}/VOCdevkit/VOC2012/JPEGImages; {tmp_path} contains VOC2012/; unpack "
        "VOCtrainval_11-May-2012.tar of host.robots.ox.ac.uk/pascal/VOC/voc2012, or set data.args.download=true, and "
        "set data.args.root to the folder that holds VOCdevkit/VOC2012/{JPEGImages, SegmentationClass, "
        "ImageSets/Segmentation}"
    )
    voc(tmp_path)
    with pytest.raises(DataError, match=r"^PascalVOC: no \S+/benchmark_RELEASE/dataset/train\.txt; .*benchmark\.tgz"):
        PascalVOC(str(tmp_path), "train", train="augmented")


def test_arguments_that_name_no_images(tmp_path):
    for args, message in (
        ({"year": 2010}, "PascalVOC: year must be 2007 or 2012, got 2010"),
        (
            {"train": "trainaug"},
            "PascalVOC: no training images are called 'trainaug', only train, trainval and augmented",
        ),
        (
            {"year": 2007, "train": "augmented"},
            "PascalVOC: the images of SBD belong to 2012; set year: 2012, or train: trainval",
        ),
    ):
        with pytest.raises(ValueError) as error:  # noqa: PT011  # the text is compared
            PascalVOC(str(tmp_path), "train", **args)
        assert str(error.value) == message
    with pytest.raises(DataError, match=r"^PascalVOC: the test labels of 2012 are not public; use val, or year: 2007$"):
        PascalVOC(str(tmp_path), "test")


@pytest.mark.parametrize("content", [b"MATLAB 5.0", b"", 128 * b" " + b"\x0f\0\0\0\x40\0\0\0" + 64 * b"\xff"])
def test_a_damaged_mat_file_is_one_line(tmp_path, content):
    voc(tmp_path, train=1, val=1)
    sbd(tmp_path, ["2008_000001"])
    path = tmp_path / "benchmark_RELEASE/dataset/cls/2008_000001.mat"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        PascalVOC(str(tmp_path), "train", train="augmented").labels(1)
    line = str(error.value)
    assert line.startswith(f"{path}: cannot be read as a mask of SBD (GTcls.Segmentation in a MATLAB file): ")
    assert "\n" not in line


def test_a_mat_file_that_stands_for_much_more_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("kd.data.datasets.mat.MAX_PIXELS", 2**19)
    voc(tmp_path, train=1, val=1)
    sbd(tmp_path, ["2008_000001"])
    path = tmp_path / "benchmark_RELEASE/dataset/cls/2008_000001.mat"
    element = zlib.compress(bytes(2**24))
    assert len(element) < 20_000
    path.write_bytes(
        path.read_bytes()[:128] + (15).to_bytes(4, "little") + len(element).to_bytes(4, "little") + element
    )
    with pytest.raises(DataError, match=r": more than 1048576 bytes when it is unpacked$"):
        PascalVOC(str(tmp_path), "train", train="augmented").labels(1)


def test_a_mask_of_sbd_with_another_size_or_label(tmp_path):
    voc(tmp_path, train=1, val=1)
    sbd(tmp_path, ["2008_000001"])
    path = tmp_path / "benchmark_RELEASE/dataset/cls/2008_000001.mat"
    savemat(path, {"GTcls": {"Segmentation": np.zeros((24, 30), np.uint8)}})
    data = PascalVOC(str(tmp_path), "train", train="augmented")
    with pytest.raises(DataError, match=r"32×24, but its mask \S+2008_000001\.mat is 30×24 \(width × height\)$"):
        data[1, 0]
    savemat(path, {"GTcls": {"Segmentation": np.full((24, 32), 21, np.uint8)}})
    with pytest.raises(
        DataError, match=r"label 21 \(768 pixels\) in no class .*; use the masks as they were published$"
    ):
        data[1, 0]
    savemat(path, {"GTcls": {"Segmentation": np.zeros((24, 32))}})
    with pytest.raises(DataError, match=r"GTcls\.Segmentation is float64 \(24, 32\), not uint8 \(H, W\)$"):
        data[1, 0]


def test_a_download_is_complete_or_not_there(tmp_path, monkeypatch):
    calls = []

    def fetch(place, year, images, download):
        calls.append((year, images, download))
        if len(calls) == 1:
            (Path(place) / "VOCdevkit").mkdir()
            raise RuntimeError("Connection reset\nby peer")
        voc(Path(place))

    monkeypatch.setattr(torchvision.datasets, "VOCSegmentation", fetch)
    root = tmp_path / "root"
    with pytest.raises(DataError) as error:
        PascalVOC(str(root), "train", download=True)
    assert str(error.value) == (f"PascalVOC: {root}/VOCdevkit/VOC2012: the download failed: Connection reset by peer")
    assert list(root.iterdir()) == []
    assert len(PascalVOC(str(root), "train", download=True)) == 8
    assert len(PascalVOC(str(root), "val", download=True)) == 4  # nothing is missing now
    assert calls == 2 * [("2012", "trainval", True)]


def test_several_processes_do_not_download(tmp_path, monkeypatch):
    monkeypatch.setattr("kd.distributed.world", lambda: 2)
    with pytest.raises(DataError) as error:
        PascalVOC(str(tmp_path), "train", download=True)
    assert str(error.value) == (
        f"PascalVOC: no {tmp_path}/VOCdevkit/VOC2012; download it with one process first: kd check RECIPE "
        "data.args.download=true"
    )


def test_there_are_as_many_colours_as_names():
    assert len(NAMES) == len(COLORS) == 21
