"""A stranger's folder of images: whatever stands in a file's place is one line at once, and links lead nowhere."""

import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.data import Folders
from kd.errors import DataError

PLACES = ("images", "masks")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images with their masks."""
    for place, shape in zip(PLACES, ((8, 8, 3), (8, 8)), strict=True):
        (tmp_path / place).mkdir()
        for name in "ab":
            Image.fromarray(np.eye(*shape[:2], dtype=np.uint8)).save(tmp_path / place / f"{name}.png")
    return tmp_path


def read_all(settings: dict[str, object]) -> None:
    images = Folders(**settings)
    for index in range(len(images)):
        images[index, 0]


def refused(root: Path, **arguments: object) -> str:
    """The line that reading the folder ends with, from its root on."""
    settings = {"root": str(root), "split": "val", "classes": ["sky", "road"], "val": "50%"} | arguments
    began = time.process_time()
    with pytest.raises((DataError, ValueError)) as caught:
        read_all(settings)
    assert time.process_time() - began < 10  # seconds; a terabyte takes minutes, and a pipe for ever
    lines = str(caught.value).split("\n")
    assert all(line.isprintable() for line in lines)
    return lines[0].removeprefix(f"{root}/")


def at_both(make: Callable[[Path], object], name: str = "c.png") -> Callable[[Path], None]:
    """Make something where an image and its mask are expected."""
    return lambda root: [make(root / place / name) for place in PLACES] and None


def huge(path: Path) -> None:
    """A PNG of a few bytes that unpacks to 3.6 gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


OUT = "; name the real folder (or, for Folders, set follow_links: true)"


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (at_both(os.mkfifo), "images/c.png: a pipe, not an image"),
        (at_both(lambda path: path.symlink_to("c.png")), "images/c.png: cannot be read (Too many levels of symbolic"),
        (at_both(lambda path: path.symlink_to("/dev/zero")), "images/c.png: a link that leads out of "),
        (at_both(lambda path: path.symlink_to("none.png")), "images/c.png: no such file"),
        (at_both(huge), "images/c.png: cannot be read as an image: Image size (3600000000 pixels) exceeds limit"),
        (lambda root: os.truncate(root / "images" / "a.png", 0), "images/a.png: cannot be read as an image"),
        (
            lambda root: shutil.copy(root / "images/a.png", root / "images/\x1b[2J\n.png"),
            r"images/\x1b[2J\n.png: no mask",
        ),
        (
            lambda root: (root / "masks").rename(root / "m") and (root / "masks").symlink_to("/"),
            "masks: a link that leads",
        ),
    ],
)
def test_what_stands_in_the_place_of_an_image(root: Path, make: Callable[[Path], object], line: str) -> None:
    make(root)
    assert refused(root, val="99%").startswith(line)


def test_a_device_is_no_image_even_if_links_are_followed(root: Path) -> None:
    at_both(lambda path: path.symlink_to("/dev/zero"))(root)
    assert refused(root, val="99%", follow_links=True) == "images/c.png: a device, not an image"


def test_what_stands_in_the_place_of_a_list_or_a_class_map(root: Path) -> None:
    lists = {"lists": "{split}.txt", "val": None}
    os.mkfifo(root / "pipe")
    private = root.parent / f"{root.name}-private"
    private.write_text("a secret\n")
    for target, line in (("pipe", "a pipe, not a list of names"), (private, f"a link that leads out of {root}; ")):
        (root / "val.txt").symlink_to(target)
        assert refused(root, **lists).startswith(f"val.txt: {line}")
        (root / "val.txt").unlink()
    (root / "val.txt").write_text("c\x1b[2J\n")
    assert refused(root, **lists).startswith(r"val.txt:1: no image named 'c\x1b[2J' in ")
    with (root / "val.txt").open("wb") as file:
        file.truncate(1 << 40)
    assert refused(root, **lists) == "val.txt: larger than 64,000,000 bytes, the limit for a list of names"
    assert refused(root, classes=str(root / "pipe")) == "pipe: a pipe, not a class map"
    assert refused(root, classes="/dev/zero") == "/dev/zero: a device, not a class map"
    (root / "c.csv").write_text('name,r,g,b\n"' + "a" * 200_000)  # a quote that is never closed
    assert refused(root, classes=str(root / "c.csv")).startswith("c.csv:2: not CSV: field larger than field limit")
