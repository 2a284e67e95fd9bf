import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kd.data.images.decode import decoded, read_header
from kd.data.images.read import read_image
from kd.errors import DataError

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options", "lossy"),
    [
        ("a.png", {}, ""),
        ("a.bmp", {}, ""),
        ("a.gif", {}, ""),
        ("a.tif", {"compression": "tiff_lzw"}, ""),
        ("a.tif", {"compression": "jpeg"}, "JPEG in TIFF"),
        ("a.jpg", {}, "JPEG"),
        ("a.webp", {}, "lossy WebP"),
        ("a.webp", {"lossless": True}, ""),
        ("a.webp", {"lossless": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}, ""),  # an extended container
        ("a.webp", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}, "lossy WebP"),
        ("a.avif", {}, "AVIF"),
        ("a.jp2", {}, "JPEG 2000"),
        ("a.jpg", {"format": "MPO", "save_all": True, "append_images": [Image.fromarray(GREY)]}, "JPEG"),
        ("jpeg-named.png", {"format": "JPEG"}, "JPEG"),  # by what the file holds, not by its name
    ],
)
def test_lossy_encodings_are_known_from_the_file(tmp_path, name, options, lossy):
    path = saved(tmp_path / name, COLOR, **options)
    assert read_header(path).lossy == lossy
    assert read_header(path).size == (5, 7)
    assert decoded(path)[1] == lossy


@pytest.mark.parametrize(("name", "turn"), [("a.jpg", 6), ("a.png", 6), ("a.webp", 6), ("a.tif", 1)])
def test_the_size_is_that_of_the_upright_image(tmp_path, name, turn):
    exif = Image.Exif()
    exif[0x0112] = 6
    header = read_header(saved(tmp_path / name, COLOR, exif=exif))
    assert (header.size, header.turn) == ((7, 5), turn)  # Pillow turns TIFF by itself
    assert decoded(tmp_path / name)[0].size == (5, 7)


@pytest.mark.parametrize("tag", [0, 9, 6000])
def test_tags_without_a_meaning_turn_nothing(tmp_path, tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    assert read_header(saved(tmp_path / "a.jpg", COLOR, exif=exif)).size == (5, 7)


def test_damaged_metadata_turns_nothing(tmp_path):
    path = saved(tmp_path / "a.jpg", COLOR, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_header(path).size == (5, 7)
    assert decoded(path)[0].size == (7, 5)


def test_of_an_mpo_the_first_picture_is_read(tmp_path):
    flat = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    path = saved(tmp_path / "a.jpg", flat, format="MPO", save_all=True, append_images=[Image.fromarray(GREY)])
    image = read_image(path, 3)
    assert image.shape == (3, 16, 16)
    assert np.abs(image.numpy().astype(int) - flat.transpose(2, 0, 1)).max() <= 6


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.webp", "a.png"])
def test_several_images_in_one_file(tmp_path, name):
    path = saved(tmp_path / name, GREY, save_all=True, append_images=[Image.fromarray(255 - GREY)])
    with pytest.raises(DataError) as error:
        read_image(path, 1)
    assert str(error.value) == f"{path}: 2 images in one file; save each in its own file"


def test_files_that_are_not_images(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"not an image")
    with pytest.raises(DataError, match=rf"^{path}: cannot be read as an image: cannot identify image file"):
        read_image(path, 3)
    with pytest.raises(DataError, match=r"none.png: no such file$"):
        read_image(tmp_path / "none.png", 3)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder.png: a folder, not an image$"):
        read_image(tmp_path / "folder.png", 3)


def test_postscript_is_not_run(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(path, 3)


def bomb(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("edge", [8193, 10000, 40000, 65535])
def test_bombs_are_refused_by_their_header(tmp_path, edge):
    path = tmp_path / "a.png"
    path.write_bytes(bomb(edge, edge))
    with pytest.raises(DataError) as error:
        read_image(path, 3)
    assert str(error.value).startswith(f"{path}: ")
    assert "pixels" in str(error.value)
    if edge < 13000:  # above it Pillow refuses by itself, in its own words
        assert (
            str(error.value)
            == f"{path}: {edge}×{edge} pixels; the limit is 67108864 in total; cut the image into tiles "
            "with kd tiles"
        )
