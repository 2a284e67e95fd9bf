import io

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from kd.data.images.decode import opened, read_header
from kd.data.images.png import checksums_hold, png_header
from kd.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
READ = ("1", "L", "P", "RGB", "RGBA")
LEFT_TO_PILLOW = ("I;16", "LA")


def content(mode="RGB", **options):
    stored = io.BytesIO()
    pixels = PIXELS[..., 0].astype(np.uint16) if mode == "I;16" else PIXELS if mode.endswith("A") else PIXELS[..., :3]
    image = Image.fromarray(pixels)
    (image if mode == image.mode else image.convert(mode)).save(stored, "PNG", **options)
    return stored.getvalue()


def by_pillow(path):
    """What Pillow reads of a file; None where it refuses it."""
    try:
        with opened(path) as image:
            return (image.height, image.width), image.mode
    except DataError:
        return None


def verified(data):
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        image.verify()
    except Exception:  # noqa: BLE001  # damaged files raise nearly anything
        return False
    return True


@pytest.mark.parametrize("mode", [*READ, *LEFT_TO_PILLOW])
def test_the_header_is_the_one_that_pillow_reads(tmp_path, mode):
    path = tmp_path / "a.png"
    path.write_bytes(content(mode, dpi=(72, 72)))
    assert by_pillow(path) == ((5, 7), mode)
    assert png_header(path) == (((5, 7), mode) if mode in READ else None)
    assert read_header(path)[:2] == ((5, 7), mode)


def test_what_may_turn_or_multiply_the_image_is_left_to_pillow(tmp_path):
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112] = 6
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    more = [Image.fromarray(255 - PIXELS[..., :3])]
    for options in ({"exif": exif}, {"pnginfo": text}, {"save_all": True, "append_images": more}):
        (tmp_path / "a.png").write_bytes(content(**options))
        assert png_header(tmp_path / "a.png") is None
    assert png_header(tmp_path / "none.png") is None
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    assert png_header(tmp_path / "a.jpg") is None


@pytest.mark.parametrize("mode", ["P", "RGB"])
def test_a_damaged_file_is_read_as_pillow_reads_it_or_not_at_all(tmp_path, mode):
    path, data = tmp_path / "a.png", content(mode, dpi=(72, 72))
    places = [*range(0, len(data) - 4, 7 if mode == "P" else 1), *range(len(data) - 4, len(data))]  # P: a long palette
    damaged = [data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :] for place in places]
    damaged += [data[:place] for place in places]
    read = held = 0
    for changed in damaged:
        path.write_bytes(changed)
        header = png_header(path)
        assert header is None or header == by_pillow(path)
        holds = checksums_hold(io.BytesIO(changed))
        assert not holds or verified(changed)
        read, held = read + (header is not None), held + holds
    assert 0 < held < read < len(damaged)  # `held`: in the last checksum, which nobody compares


def test_a_whole_file_needs_no_second_look(monkeypatch, tmp_path):
    monkeypatch.setattr(ImageFile.ImageFile, "verify", lambda image: pytest.fail("verified by Pillow"))
    (tmp_path / "a.png").write_bytes(content("L"))
    assert checksums_hold(io.BytesIO(content("L") + b"more after the end"))
    assert read_header(tmp_path / "a.png").mode == "L"
