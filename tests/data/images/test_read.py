import numpy as np
import pytest
from deep import write_deep, write_tiff
from PIL import Image

from kd.data.images.decode import read_header
from kd.data.images.read import BAND, read_image, read_mask
from kd.errors import DataError

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def saved(path, pixels, mode=None, **options):
    Image.fromarray(pixels).convert(mode).save(path, **options) if mode else Image.fromarray(pixels).save(
        path, **options
    )
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_colour_as_it_is(tmp_path, suffix):
    image = read_image(saved(tmp_path / f"a.{suffix}", COLOR), 3)
    assert image.numpy().tolist() == COLOR.transpose(2, 0, 1).tolist()


def test_jpeg_and_webp_within_their_loss(tmp_path):
    smooth = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    for suffix in ("jpg", "webp"):
        image = read_image(saved(tmp_path / f"a.{suffix}", smooth), 3)
        assert np.abs(image.numpy().astype(int) - smooth.transpose(2, 0, 1)).max() <= 6


def test_grey_becomes_three_equal_channels_and_three_equal_channels_become_one(tmp_path):
    grey = saved(tmp_path / "grey.png", GREY)
    assert read_image(grey, 3).numpy().tolist() == [GREY.tolist()] * 3
    assert read_image(grey, 1).numpy().tolist() == [GREY.tolist()]
    assert read_image(saved(tmp_path / "rgb.png", np.stack([GREY] * 3, -1)), 1).numpy().tolist() == [GREY.tolist()]


def test_palette_one_bit_and_opaque_alpha(tmp_path):
    few = np.where(GREY[..., None] > 127, np.array([255, 0, 0]), np.array([0, 0, 255])).astype(np.uint8)
    assert read_image(saved(tmp_path / "p.png", few, "P"), 3).numpy().tolist() == few.transpose(2, 0, 1).tolist()
    assert read_image(saved(tmp_path / "a.png", COLOR, "RGBA"), 3).numpy().tolist() == COLOR.transpose(2, 0, 1).tolist()
    assert read_image(saved(tmp_path / "la.png", GREY, "LA"), 1).numpy().tolist() == [GREY.tolist()]
    black_and_white = np.where(GREY > 127, 255, 0).astype(np.uint8)
    bits = tmp_path / "1.png"
    Image.fromarray(GREY > 127).save(bits)
    assert read_image(bits, 1).numpy().tolist() == [black_and_white.tolist()]


def test_colour_where_one_channel_is_wanted(tmp_path):
    pixels = np.stack([GREY] * 3, -1)
    pixels[2, 3] = (9, 8, 7)
    path = saved(tmp_path / "a.png", pixels)
    with pytest.raises(DataError) as error:
        read_image(path, 1)
    assert str(error.value) == (
        f"{path}: channels is 1, but the image is in colour: (9, 8, 7) at row 2, column 3; train with "
        "channels: 3, or save it as grey"
    )


def test_transparency(tmp_path):
    pixels = np.dstack([COLOR, np.full((5, 7), 255, dtype=np.uint8)])
    pixels[0, 0, 3] = 0
    path = saved(tmp_path / "a.png", pixels)
    with pytest.raises(DataError) as error:
        read_image(path, 3)
    transparent = f"{path}: 2.9 % of the pixels are transparent; save it without transparency"
    assert str(error.value) == (
        f"{transparent}, or in data.args set channels: 4, ranges: [0, 255] if that is a channel of its own"
    )
    with pytest.raises(DataError) as error:
        read_mask(path)
    assert str(error.value) == transparent


@pytest.mark.parametrize(("pixels", "kind"), [(GREY.astype(np.uint16) * 16, "I;16"), (GREY.astype(np.float32), "F")])
def test_more_than_eight_bits(tmp_path, pixels, kind):
    path = saved(tmp_path / "a.tif", pixels)
    with pytest.raises(DataError) as error:
        read_image(path, 1)
    stated = ", or in data.args set channels: 1, ranges: [low, high]" if kind == "I;16" else ""
    assert str(error.value) == (
        f"{path}: unsupported pixel mode {kind}; save it as 8-bit grey or RGB, scaled as you need{stated}"
    )


def outcome(read, *args):
    """What a reader gives, or the text of its DataError; any other exception is the test's failure."""
    try:
        return read(*args)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colour_of_16_bits_of_which_pillow_keeps_8(tmp_path, channels):
    path = tmp_path / "a.png"
    write_deep(path, np.full((4, 5, channels), [300, 300, 300, 65535][-channels:], np.uint16))
    assert read_header(path).mode in ("RGB;16", "RGBA;16")
    for read in (lambda: read_image(path, 3), lambda: read_mask(path)):
        with pytest.raises(DataError) as error:
            read()
        assert str(error.value) == (
            f"{path}: more than 8 bits per channel, of which Pillow keeps 8; save it with 8 bits, scaled as you need, "
            "or train with ranges on .npy images"
        )


def test_colour_of_16_bits_in_planes(tmp_path):
    write_tiff(tmp_path / "a.tif", np.full((6, 4, 3), 300, np.uint16), planes=True)
    assert read_header(tmp_path / "a.tif").mode == "RGB;16"
    for read in (lambda: read_image(tmp_path / "a.tif", 3), lambda: read_mask(tmp_path / "a.tif")):
        with pytest.raises(DataError, match="more than 8 bits per channel, of which Pillow keeps 8"):
            read()


@pytest.mark.parametrize(
    ("dtype", "how"),
    [("i2", {"order": ">", "packed": True}), ("i4", {"order": ">", "packed": True}), ("i2", {"planes": True})],
)
def test_masks_whose_bytes_pillow_takes_in_a_wrong_order(tmp_path, dtype, how):
    path = tmp_path / "a.tif"
    write_tiff(path, np.arange(42).reshape(6, 7, 1).astype(dtype), **how)
    with pytest.raises(DataError) as error:
        read_mask(path)
    assert str(error.value) == (
        f"{path}: Pillow misreads this kind of TIFF (its order of bytes); save it again, masks as PNG, images as .npy, "
        "for which Folders has ranges"
    )


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
def test_jpeg_2000_of_more_than_8_bits(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", COLOR)
    assert read_header(path).mode == "RGB"
    content = path.read_bytes()
    at = content.index(b"\xff\x4f\xff\x51") + 42  # of the first channel
    assert content[at] == 7  # one less than the bits
    path.write_bytes(content[:at] + b"\x0b" + content[at + 1 :])
    assert read_header(path).mode == "RGB;16"
    with pytest.raises(DataError, match="more than 8 bits per channel, of which Pillow keeps 8"):
        read_image(path, 3)


def test_damaged_png_masks_are_never_read_wrong(tmp_path):
    path, labels = tmp_path / "a.png", np.kron(RNG.integers(0, 5, (8, 8)), np.ones((4, 4))).astype(np.uint8)
    saved(path, labels)
    whole, refused = path.read_bytes(), 0
    for _ in range(200):
        data = bytearray(whole)
        kind, place = RNG.integers(3), int(RNG.integers(len(data)))
        if kind == 0:
            data[place] ^= 1 << int(RNG.integers(8))
        elif kind == 1:
            data = data[:place]
        else:
            data[place : place + 16] = bytes(min(16, len(data) - place))
        path.write_bytes(data)
        found = outcome(read_mask, path)
        if isinstance(found, str):
            assert found.startswith(f"{path}: ")
            assert "\n" not in found
            refused += 1
        else:
            assert np.array_equal(found.values, labels)
    assert refused > 150


def test_damaged_jpegs_are_read_or_refused(tmp_path):
    path = saved(tmp_path / "a.jpg", np.kron(COLOR, np.ones((8, 8, 1))).astype(np.uint8))
    whole, refused = path.read_bytes(), 0
    for _ in range(100):
        data = bytearray(whole)
        for place in RNG.integers(len(data), size=3):
            data[place] = int(RNG.integers(256))
        path.write_bytes(data[: int(RNG.integers(len(data) // 2, len(data) + 1))])
        found = outcome(read_image, path, 3)
        if isinstance(found, str):
            assert found.startswith(f"{path}: ")
            refused += 1
        else:
            assert found.shape[0] == 3  # no checksum: pixels may be wrong
    assert refused > 50


UPRIGHT = np.arange(6, dtype=np.uint8).reshape(2, 3)
STORED = {  # by EXIF orientation: what a camera stores so that a viewer, following the tag, shows UPRIGHT
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),  # a viewer turns it clockwise
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


def tagged(path, pixels, turn, **options):
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"})])
@pytest.mark.parametrize("turn", STORED)
def test_images_and_masks_are_turned_upright(tmp_path, suffix, options, turn):
    path = tagged(tmp_path / f"a.{suffix}", STORED[turn], turn, **options)
    assert read_image(path, 1)[0].tolist() == UPRIGHT.tolist()
    assert read_mask(path).values.tolist() == UPRIGHT.tolist()
    if suffix == "png":  # the tag of the file itself counts
        assert read_mask(path, 1 if turn == 1 else 9 - turn).values.tolist() == UPRIGHT.tolist()
        plain = saved(tmp_path / "plain.png", np.ascontiguousarray(STORED[turn]))
        assert read_mask(plain, turn).values.tolist() == UPRIGHT.tolist()


def test_masks_are_read_as_stored(tmp_path):
    assert read_mask(saved(tmp_path / "l.png", GREY)).values.tolist() == GREY.tolist()
    assert read_mask(saved(tmp_path / "rgb.png", COLOR)).values.tolist() == COLOR.tolist()
    deep = GREY.astype(np.uint16) * 257
    assert read_mask(saved(tmp_path / "16.png", deep)).values.tolist() == deep.tolist()
    palette = Image.fromarray(GREY % 4, mode="P")
    palette.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0, 0, 0, 7])
    palette.save(tmp_path / "p.png", transparency=0)
    stored = read_mask(tmp_path / "p.png")
    assert stored.values.tolist() == (GREY % 4).tolist()
    assert stored.palette[:4].tolist() == [[0, 0, 0], [9, 9, 9], [200, 0, 0], [0, 0, 7]]
    Image.fromarray(GREY > 127).save(tmp_path / "1.png")
    stored = read_mask(tmp_path / "1.png")
    assert stored.values.tolist() == (GREY > 127).astype(int).tolist()
    assert stored.bits


def test_masks_that_hold_no_integers(tmp_path):
    path = saved(tmp_path / "a.tif", GREY.astype(np.float32))
    with pytest.raises(
        DataError, match="unsupported pixel mode F for a mask; save it as PNG with indices, a palette or RGB"
    ):
        read_mask(path)


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_images_of_several_bands_are_read_whole(mode, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2 * BAND + 7, 5, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).quantize(16) if mode == "P" else Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", 3).numpy() == np.asarray(image.convert("RGB")).transpose(2, 0, 1)).all()
