"""`kd tiles`: large images and masks in, tiles that Folders reads out."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from command import kd
from PIL import Image

from kd.data import Folders
from kd.prepare.tiles import windows

PALETTE = [0, 0, 0, 200, 0, 0, 0, 200, 0]


@pytest.fixture
def pair(folder):
    """A picture of 70×100 and a mask with a palette; and a small one in grey."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    picture = random.integers(0, 256, (70, 100, 3), dtype=np.uint8)
    labels = random.integers(0, 3, (70, 100), dtype=np.uint8)
    Image.fromarray(picture).save("images/my_yard.png")
    mask = Image.fromarray(labels)
    mask.putpalette(PALETTE)
    mask.save("masks/my_yard.png")
    Image.fromarray(picture[:20, :30, 0]).save("images/small.png")
    Image.fromarray(labels[:20, :30]).save("masks/small.png")
    return picture, labels


def test_windows_touch_and_the_last_ones_end_at_the_border():
    assert list(windows((70, 100), (32, 64))) == [
        (top, left, top + 32, left + 64) for top in (0, 32, 38) for left in (0, 36)
    ]
    assert list(windows((64, 20), (32, 32))) == [(0, 0, 32, 20), (32, 0, 64, 20)]


def test_tiles_hold_the_pixels_of_image_and_mask_and_stay_in_one_split(pair, capsys):
    picture, labels = pair
    assert kd("tiles", "images", "masks", "--out", "tiles", "--size", 32, 64) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "tiles: 2 images with masks cut into 7 tiles of 64×32 (width × height)"
    for top, left, bottom, right in windows((70, 100), (32, 64)):
        name = f"my_yard_y{top:05}_x{left:05}.png"
        assert (np.asarray(Image.open(f"tiles/images/{name}")) == picture[top:bottom, left:right]).all()
        mask = Image.open(f"tiles/masks/{name}")
        assert (np.asarray(mask) == labels[top:bottom, left:right]).all()
        assert mask.getpalette()[:9] == PALETTE
    assert Image.open("tiles/images/small_y00000_x00000.png").size == (30, 20)
    assert lines[-1] == "in a recipe, 'data.args.group=(.*)_y' keeps the tiles of an image in one split"
    args = {"classes": ["a", "b", "c"], "folds": 2, "fold": 0, "group": "(.*)_y"}
    splits = [{os.path.basename(n)[:5] for n in Folders("tiles", split, **args).names} for split in ("train", "val")]
    assert sorted(map(sorted, splits)) == [["my_ya"], ["small"]]


def test_a_line_states_what_was_not_read(pair, capsys):
    Path("images/more").mkdir()
    assert kd("tiles", "images", "--out", "tiles", "--size", 32, 64) == 0
    assert "images: not read: 1 folder" in capsys.readouterr().out.splitlines()


def test_arrays_are_cut_and_folders_below_kept(pair, folder):
    (folder / "many/a").mkdir(parents=True)
    values = np.arange(5 * 40 * 50, dtype=np.uint16).reshape(5, 40, 50)
    np.save("many/a/first.npy", values)
    np.save("many/a/last.npy", values.transpose(1, 2, 0))
    assert kd("tiles", "many", "--out", "tiles", "--size", 32, 32) == 0
    assert (np.load("tiles/images/a/first_y00008_x00018.npy") == values[:, 8:, 18:]).all()
    assert (np.load("tiles/images/a/last_y00008_x00018.npy") == values[:, 8:, 18:].transpose(1, 2, 0)).all()
    assert not os.path.exists("tiles/masks")


def test_masks_of_32_bits_stay_such(pair):
    _, labels = pair
    os.remove("masks/my_yard.png")
    Image.fromarray(labels.astype(np.int32) * 70_000 - 1).save("masks/my_yard.tif")
    assert kd("tiles", "images", "masks", "--out", "tiles", "--size", 32, 64) == 0
    tile = np.asarray(Image.open("tiles/masks/my_yard_y00038_x00036.tif"))
    assert (tile == labels[38:, 36:].astype(np.int32) * 70_000 - 1).all()


def test_masks_on_the_stored_pixels_of_turned_photographs_are_turned_as_by_folders(pair, capsys):
    picture, labels = pair
    for name, turn in (("my_yard", 6), ("half", 3)):  # the size of the first decides for the second
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(picture).save(f"images/{name}.png", exif=exif)
        Image.fromarray(labels).save(f"masks/{name}.png")
    assert kd("tiles", "images", "masks", "--out", "tiles", "--size", 128, 128) == 0
    assert (np.asarray(Image.open("tiles/images/my_yard_y00000_x00000.png")) == np.rot90(picture, -1)).all()
    assert (np.asarray(Image.open("tiles/masks/my_yard_y00000_x00000.png")) == np.rot90(labels, -1)).all()
    assert (np.asarray(Image.open("tiles/masks/half_y00000_x00000.png")) == np.rot90(labels, 2)).all()
    assert "2 of their masks were drawn on the stored pixels and are turned too" in capsys.readouterr().out


@pytest.mark.slow
def test_an_image_beyond_the_limit_of_training_is_cut(folder):
    (folder / "images").mkdir()
    Image.fromarray(np.zeros((20_000, 10_000), np.uint8)).save("images/a.png", compress_level=1)  # 200 megapixels
    assert kd("tiles", "images", "--out", "tiles", "--size", 8000, 8000) == 0
    assert len(os.listdir("tiles/images")) == 6


def bomb(edge):
    """A PNG of 8-bit grey with far too few pixels."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = chunk(b"IHDR", edge.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"none")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("make", "status", "message"),
    [
        (
            lambda: [Path(side, "small.png").write_bytes(bomb(40_000)) for side in ("images", "masks")],
            3,
            "images/small.png: 40000×40000 pixels; the limit is 1073741824 in total; save it as .npy, whose tiles ",
        ),
        (lambda: Path("images/small.png").write_bytes(b"none"), 3, "images/small.png: cannot be read as an image"),
        (lambda: os.remove("masks/small.png"), 3, "images/small.png: no mask named small in masks"),
        (
            lambda: Image.new("L", (3, 3)).save("masks/small.png"),
            3,
            "images/small.png: 30×20, but its mask masks/small.png is 3×3 (width × height); give the mask the image's",
        ),
        (
            lambda: (os.remove("masks/small.png"), Image.new("L", (30, 20)).save("masks/small.jpg")),
            3,
            "masks/small.jpg: JPEG changes labels; use the original masks, saved as PNG; if there are none, save black "
            "and white ones as PNG, each pixel 0 or 255",
        ),
        (lambda: os.mkdir("tiles"), 3, "tiles: exists; remove it, or choose another folder with --out DIR"),
        (lambda: os.rename("images", "photos"), 3, "images: no such folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(pair, make, status, message, capsys):
    make()
    before = sorted(os.listdir())
    assert kd("tiles", "images", "masks", "--out", "tiles", "--size", 32, 32) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)
    assert sorted(os.listdir()) == before


def test_a_size_below_32_is_refused(pair, capsys):
    assert kd("tiles", "images", "--out", "tiles", "--size", 16, 64) == 2
    assert capsys.readouterr().err == "--size 16 64: at least 32 pixels each\n"
