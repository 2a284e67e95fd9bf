"""`predict.py` of an exported folder as a script: what it replaces, and what it refuses."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deep import write_deep, write_tiff
from PIL import Image
from script import predict_script as call

pytestmark = pytest.mark.usefixtures("folder")


def photo(path: str, level: int = 200, **options: Any) -> bytes:
    Path(path).parent.mkdir(exist_ok=True)
    Image.new("RGB", (6, 5), (level, level, level)).save(path, **options)
    return Path(path).read_bytes()


def labels(path: str) -> set[int]:
    return set(np.asarray(Image.open(path)).ravel().tolist())


def test_masks_of_an_earlier_call_are_replaced() -> None:
    photo("a/1.png"), photo("a/2.jpg")
    assert call("a/1.png", "a/2.jpg") == 0
    assert (labels("predictions/1.png"), labels("predictions/2.png")) == ({1}, {1})
    photo("a/1.png", level=3)
    assert call("a/1.png") == 0
    assert (labels("predictions/1.png"), labels("predictions/2.png")) == ({0}, {1})


def test_images_are_not_replaced() -> None:
    before = photo("a/1.png")
    assert call("a/1.png", "--out", "a") == "a/1.png: not predicted: it would replace a/1.png; choose another --out"
    photo("a/1.jpg")
    assert call("a/1.jpg", "--out", "a") == "a/1.jpg: not predicted: it would replace a/1.png; choose another --out"
    assert Path("a/1.png").read_bytes() == before


def test_masks_of_a_dataset_in_the_same_colours_are_not_replaced() -> None:
    photo("a/1.jpg")
    call("a/1.jpg")
    Image.open("predictions/1.png").save("by_hand.png")  # corrected, in another program
    Path("by_hand.png").replace("predictions/1.png")
    assert call("a/1.jpg") == ("a/1.jpg: not predicted: it would replace predictions/1.png; choose another --out")


def test_two_images_of_one_name() -> None:
    photo("a/1.png"), photo("b/1.png", level=3)
    assert call("a/1.png", "b/1.png") == (
        "b/1.png: not predicted: it would replace predictions/1.png; choose another --out"
    )
    assert labels("predictions/1.png") == {1}


def test_an_image_too_large_for_pillow_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    photo("1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # of 30: a warning, which would fail this test
    assert call("1.png") == 0
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 14)
    assert str(call("1.png")).startswith("1.png: not predicted: Image size (30 pixels) exceeds limit of 28 pixels")


def test_damaged_metadata_are_left_out_as_by_kd() -> None:
    photo("a.png", exif=b"garbage!")
    assert call("a.png") == 0
    assert labels("predictions/a.png") == {1}


def test_bad_images_do_not_keep_the_others_from_being_predicted() -> None:
    Path("a.png").write_bytes(photo("whole.png")[:50])
    tiff = photo("b.tif")
    end = 10 + 12 * tiff[8]  # of its tags, where the place of the next image is
    Path("b.tif").write_bytes(tiff[:end] + len(tiff).to_bytes(4, "little") + tiff[end + 4 :] + bytes(8))
    assert call("a.png", "b.tif", "whole.png", "missing.png") == (
        "a.png: not predicted: image file is truncated\n"
        "b.tif: not predicted: Missing dimensions\n"
        "missing.png: not predicted: [Errno 2] No such file or directory: 'missing.png'"
    )
    assert [path.name for path in Path("predictions").iterdir()] == ["whole.png"]


def test_what_kd_refuses() -> None:
    frames = [Image.new("L", (6, 5), level) for level in (9, 90, 200)]
    for file in ("a.gif", "a.tif"):
        frames[0].save(file, save_all=True, append_images=frames[1:])
        assert call(file) == f"{file}: not predicted: 3 images in one file"
    Image.new("RGB", (6, 5), (200, 200, 199)).save("a.png")
    assert call("a.png") == 0
    assert call("a.png", channels=1) == "a.png: not predicted: in colour, but the network takes grey images"


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bits_of_which_pillow_reads_8(channels: int) -> None:
    write_deep(Path("a.png"), np.full((5, 6, channels), 4095, np.uint16))
    assert call("a.png") == "a.png: not predicted: pixels of 16 bits, not opaque 8-bit grey or RGB"
    write_tiff(Path("a.tif"), np.full((6, 4, 3), 4095, np.uint16), planes=True)
    assert call("a.tif") == "a.tif: not predicted: pixels of 16 bits, not opaque 8-bit grey or RGB"


def test_two_previews_after_a_photograph_are_no_images() -> None:
    previews = [Image.new("RGB", (3, 3)) for _ in range(2)]
    Image.new("RGB", (6, 5), "white").save("a.jpg", format="MPO", save_all=True, append_images=previews)
    assert call("a.jpg") == 0
    assert labels("predictions/a.png") == {1}


def test_5_bits_of_a_channel() -> None:
    """A BMP of 5, 6 and 5 bits, which Pillow reads whole."""
    bits = struct.pack("<IiiHHIIiiIIIII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F)
    header = struct.pack("<2sIHHI", b"BM", 74, 0, 0, 66) + bits
    Path("a.bmp").write_bytes(header + b"\xff" * 8)
    assert call("a.bmp") == 0
