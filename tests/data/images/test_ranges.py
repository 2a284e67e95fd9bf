"""Images of 16 bits, fractions and several channels: stated ranges become 0 … 255."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from deep import write_deep, write_tiff
from PIL import Image

from kd.data import Folders
from kd.data.images.arrays import MAX_CHANNELS
from kd.data.images.decode import read_header
from kd.data.images.ranges import check_ranges, read_in_ranges, steps_note
from kd.data.splits.duplicates import find_shared
from kd.data.splits.unlabelled import Unlabelled
from kd.errors import DataError

WITH_TIFFFILE = pytest.mark.skipif(importlib.util.find_spec("tifffile") is None, reason="tifffile is not installed")


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [([[0, 100, 4095]], np.uint16), ([[-5.0, 100.0, 4096.5]], np.float32), ([[0, 100, 4095]], ">u2")],
)
@pytest.mark.parametrize("suffix", ["npy", "tif"])
def test_the_ends_of_the_range_become_0_and_255_and_so_does_what_is_outside(folder, stored, dtype, suffix):
    values = np.array(stored, dtype=dtype)
    if suffix == "npy":
        np.save("a.npy", values)
    else:
        Image.fromarray(values.astype(np.dtype(dtype).newbyteorder("="))).save("a.tif")
    image = read_in_ranges(folder / f"a.{suffix}", [(0, 4095)])
    assert image.dtype == torch.uint8
    assert image.tolist() == [[[0, round(100 * 255 / 4095), 255]]]


def test_each_channel_has_its_range_whichever_axis_holds_them(folder):
    values = np.array([10, 10, 1000, 0.5, -3], np.float32) * np.ones((7, 9, 5), np.float32)
    np.save("last.npy", values)
    np.save("first.npy", values.transpose(2, 0, 1))
    ranges = [(0, 10), (0, 20), (0, 4000), (0, 1), (-6, 0)]
    for name in ("last", "first"):
        image = read_in_ranges(folder / f"{name}.npy", ranges)
        assert image.shape == (5, 7, 9)
        assert image[:, 3, 4].tolist() == [255, 128, 64, 128, 128]
        assert read_header(folder / f"{name}.npy").size == (7, 9)


def test_grey_becomes_equal_channels_and_an_rgba_file_has_four(folder):
    Image.fromarray(np.full((2, 3), 100, np.uint8)).save("grey.png")
    assert read_in_ranges(folder / "grey.png", [(0, 200)] * 3)[:, 0, 0].tolist() == [128] * 3
    Image.fromarray(np.full((2, 3, 4), (10, 20, 30, 40), np.uint8)).save("four.png")
    assert read_in_ranges(folder / "four.png", [(0, 255)] * 4)[:, 0, 0].tolist() == [10, 20, 30, 40]


@WITH_TIFFFILE
@pytest.mark.parametrize("shape", [(6, 8, 7), (7, 8, 9), (6, 8, 3)])
def test_tiff_files_that_pillow_does_not_read(folder, shape):
    import tifffile

    values = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    tifffile.imwrite("a.tif", values, photometric="minisblack" if shape[2] != 3 else "rgb")
    image = read_in_ranges(folder / "a.tif", [(0, 510)] * min(shape[0], shape[2]))
    last = values if shape[2] <= shape[0] else np.moveaxis(values, 0, 2)
    assert (image.permute(1, 2, 0).numpy() == np.clip(np.round(last / 2), 0, 255)).all()
    assert read_header(folder / "a.tif").size == last.shape[:2]


def save_header_only(path, shape, dtype="<u2"):
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"no array"), "cannot be read as an array: the magic string is not correct"),
        (lambda path: save_header_only(path, (40, 50)), "cannot be read as an array: "),
        (lambda path: save_header_only(path, (10**5, 10**5)), "100000×100000 pixels; the limit is 67108864 in total"),
        (lambda path: save_header_only(path, (8192, 8192, 60)), "; the limit is 67108864 in total; "),
        (lambda path: save_header_only(path, (99, 99, 99)), f"99 channels, of at most {MAX_CHANNELS} that are read"),
        (lambda path: save_header_only(path, (9,)), "an array of shape (9,) is no image; save numbers as (H, W, C)"),
        (lambda path: np.save(path, np.array([[{}]]), allow_pickle=True), "an array of shape (1, 1) is no image; "),
        (
            lambda path: np.save(path, np.array([[1.0, np.nan]])),
            "NaN at row 0, column 1, channel 0; write a number there",
        ),
        (
            lambda path: np.save(path, np.ones((9, 9, 2))),
            "2 channels, but channels is 1; train with channels: 2, or save it with 1",
        ),
    ],
)
def test_what_is_no_image_is_one_line(folder, make, message):
    make(folder / "a.npy")
    with pytest.raises(DataError) as refused:
        read_in_ranges(folder / "a.npy", [(0, 1)])
    (line,) = refused.value.mistakes
    assert line.startswith(f"{folder}/a.npy: ")
    assert message in line


@pytest.mark.parametrize(
    ("ranges", "note"),
    [
        ([(0.0, 4080.0)] * 3, "0 … 4080 becomes 0 … 255 in steps of 16"),
        ([(-1.0, 1.0)], "-1 … 1 becomes 0 … 255 in steps of 0.00784"),
        ([(0.0, 510.0), (0.0, 51.0)], "the range of each channel becomes 0 … 255 in steps of 0.2 to 2"),
    ],
)
def test_a_line_states_how_coarse_the_numbers_are(ranges, note):
    assert steps_note(ranges) == f"images: {note}: networks see 8 bits, whatever the files hold"


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([0, 0], "ranges: low must be below high, got [0, 0]"),
        ([0, float("inf")], "ranges: low must be below high"),
        ([[0, 1]], "ranges has 1 ranges for 2 channels; give one, or one for each"),
        ([0, 1, 2], "ranges must be [low, high], or one such pair for each channel, got [0, 1, 2]"),
        ("12", "ranges must be [low, high]"),
    ],
)
def test_ranges_are_checked(ranges, message):
    with pytest.raises(ValueError, match="ranges") as refused:
        check_ranges(ranges, 2)
    assert message in str(refused.value)
    assert check_ranges([0, 9], 2) == ((0.0, 9.0),) * 2


def test_an_opacity_of_16_bits_is_not_cut(tmp_path):
    write_deep(tmp_path / "a.png", np.full((4, 5, 4), 40000, np.uint16))
    with pytest.raises(DataError, match=r"a.png: Pillow reads a part of its numbers; save it as .npy or TIFF$"):
        read_in_ranges(tmp_path / "a.png", [(0.0, 65535.0)] * 4)


@pytest.mark.parametrize(
    ("dtype", "channels", "planes", "order", "packed"),
    [
        ("u1", 2, False, "<", False),  # Pillow reads the first channel
        ("u1", 4, False, "<", False),  # Pillow reads red, green and blue
        ("f4", 2, True, "<", True),
        ("u2", 3, True, "<", False),  # Pillow reads half of the rows, in 8 bits
        ("i2", 1, False, ">", True),  # Pillow swaps the bytes twice
        ("f4", 1, False, ">", True),
        ("i1", 1, False, "<", False),  # Pillow reads -1 as 255
    ],
)
def test_tiff_files_of_which_pillow_reads_a_part_or_other_numbers(
    tmp_path, monkeypatch, dtype, channels, planes, order, packed
):
    values = np.arange(6 * 7 * channels).reshape(6, 7, channels).astype(dtype)
    write_tiff(tmp_path / "a.tif", values, planes=planes, order=order, packed=packed)
    monkeypatch.setitem(sys.modules, "tifffile", None)  # not installed
    with pytest.raises(
        DataError, match=r"a.tif: Pillow reads a part of its numbers; pip install 'kd-segmentation\[tiff\]'$"
    ):
        read_in_ranges(tmp_path / "a.tif", [(0.0, 255.0)] * channels)


def test_tiff_files_that_pillow_does_not_open_name_the_package(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", np.zeros((6, 7, 5), np.uint16))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError) as error:
        read_header(tmp_path / "a.tif")
    assert str(error.value) == (
        f"{tmp_path}/a.tif: cannot be read as an image: cannot identify image file; of several channels: pip install "
        "'kd-segmentation[tiff]', and state ranges"
    )


@pytest.mark.parametrize(("dtype", "order", "packed"), [("i2", "<", True), ("i2", ">", False), ("u2", ">", True)])
def test_tiff_files_that_pillow_reads(tmp_path, dtype, order, packed):
    values = np.arange(42).reshape(6, 7, 1).astype(dtype)
    write_tiff(tmp_path / "a.tif", values, order=order, packed=packed)
    assert read_in_ranges(tmp_path / "a.tif", [(0.0, 255.0)]).permute(1, 2, 0).tolist() == values.tolist()


@pytest.mark.parametrize("lines", ["images/0.npy\n1.npy\n", "0.npy masks/1.png\n1\n"])
def test_lists_and_groups_name_arrays_with_their_suffix(folder, lines):
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for index in range(2):
        np.save(f"images/{index}.npy", np.full((6, 8), index, np.uint16))
        Image.fromarray(np.full((6, 8), index, np.uint8)).save(f"masks/{index}.png")
    Path("train.txt").write_text(lines)
    Path("groups.csv").write_text("name,group\n0.npy,a\n1.NPY,b\n")
    args = {"classes": ["a", "b"], "channels": 1, "ranges": [0, 9]}
    assert Folders(".", "train", **args, lists="{split}.txt").names == ("images/0.npy", "images/1.npy")
    assert len(Folders(".", "train", **args, group="groups.csv", val="50%")) == 1


def test_folders_of_arrays_and_images_without_labels_of_the_same_kind(folder):
    for name in ("images", "masks", "more"):
        (folder / name).mkdir()
    for index in range(4):
        np.save(f"images/{index}.npy", np.full((6, 8, 5), 300 * index, np.uint16))
        Image.fromarray(np.full((6, 8), index % 2, np.uint8)).save(f"masks/{index}.png")
    np.save("more/a.npy", np.full((5, 9, 7), 511, np.uint16))  # (C, H, W)
    args = {"classes": ["a", "b"], "val": "25%", "channels": 5, "ranges": [0, 900]}
    splits = {split: Folders(".", split, **args) for split in ("train", "val")}
    assert sorted(int(s[i, 0].image.max()) for s in splits.values() for i in range(len(s))) == [0, 85, 170, 255]
    assert "in steps of 3.53: networks see 8 bits" in splits["train"].notes[-1]
    other = Unlabelled("more", splits["train"], splits)[0, 0].image
    assert (tuple(other.shape), other.unique().tolist()) == ((5, 9, 7), [145])
    assert find_shared(splits) == ([], "")
    with pytest.raises(
        ValueError, match=r"^Folders: channels must be 1 or 3, got 5; for others state ranges: \[low, high\]$"
    ):
        Folders(".", "train", **(args | {"ranges": None}))
