"""The advice about images and masks: with the setting that a message prints, the data can be read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from kd.data import Folders
from kd.errors import DataError

COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200], [90, 90, 0]], dtype=np.uint8)
LABELS = np.kron(np.array([[0, 1, 0], [2, 1, 0]], dtype=np.uint8), np.ones((8, 8), dtype=np.uint8))
NAMES = ["floor", "wall", "lamp"]


def write(folder: Path, image: str, mask: str, values: np.ndarray, **options: Any) -> None:
    """Four images and masks; `{}` in their names is the number."""
    for number in range(4):
        for name, pixels, extra in ((image, np.full((16, 24, 3), 9, np.uint8), {}), (mask, values, options)):
            path = folder / name.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, **extra)


def plain(values: np.ndarray, suffix: str = "png", **options: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder, "images/{}.png", f"masks/{{}}.{suffix}", values, **options)


def soft(values: np.ndarray) -> np.ndarray:
    """Colours with blurred edges."""
    image = Image.fromarray(values).resize((96, 64), Image.Resampling.NEAREST)
    return np.array(image.resize((24, 16), Image.Resampling.BICUBIC, box=(1.5, 1.5, 95, 63)))


COLORED = {"floor": [0, 0, 0], "wall": [200, 0, 0], "lamp": [0, 0, 200]}
ROWS: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "numbers from one": (plain(LABELS + 1), {"classes": NAMES}),
    "0 for other": (plain(np.pad(LABELS[1:] + 1, ((1, 0), (0, 0)))), {"classes": NAMES}),
    "spread numbers": (plain(LABELS * 100), {"classes": NAMES}),
    "a number more": (plain(LABELS), {"classes": {"floor": 0, "wall": 1}, "values": {9: "ignore"}}),
    "ids of Cityscapes": (plain(np.array([7, 26, 4], np.uint8)[LABELS]), {"classes": ["road", "car"]}),
    "many numbers": (plain(np.resize(np.arange(200, dtype=np.uint8), (16, 24))), {"classes": {"a": 3, "b": 4}}),
    "no data": (
        plain(LABELS.astype(np.int32) - 9999 * (LABELS == 2).astype(np.int32), "tif"),
        {"classes": ["floor", "wall"]},
    ),
    "16 bits": (plain(LABELS.astype(np.uint16) * 257), {"classes": NAMES}),
    "black and white": (plain((LABELS == 1) * np.uint8(255)), {"classes": ["floor", "wall"]}),
    "JPEG": (plain((LABELS == 1) * np.uint8(255), "jpg"), {"classes": ["floor", "wall"]}),
    "TIFF": (plain((LABELS == 1) * np.uint8(255), "tif", compression="jpeg"), {"classes": {"floor": 0, "wall": 255}}),
    "soft shades": (plain(soft((LABELS == 1) * np.uint8(255))), {"classes": {"floor": 0, "wall": 255}}),
    "a colour more": (plain(COLORS[LABELS]), {"classes": {"floor": [0, 0, 0], "wall": [200, 0, 0]}}),
    "two colours more": (plain(COLORS[LABELS + 1]), {"classes": COLORED, "values": {"1, 1, 1": "wall"}}),
    "soft colours": (plain(soft(COLORS[LABELS])), {"classes": COLORED}),
    "numbers, not colours": (plain(LABELS), {"classes": COLORED}),
    "a mask ending": (lambda folder: write(folder, "images/{}.png", "masks/{}_seg.png", LABELS), {"classes": NAMES}),
    "both endings": (lambda folder: write(folder, "images/{}_rgb.png", "masks/{}-gt.png", LABELS), {"classes": NAMES}),
}


def readable(folder: Path, args: dict[str, Any]) -> str:
    """The message about the data, or nothing if all of it can be read."""
    try:
        for split in ("train", "val"):
            data = Folders(str(folder), split, val="50%", **args)
            for index in range(len(data)):
                assert (data[index, 0].labels.numpy() != 255).any()
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("row", ROWS)
def test_the_advised_setting_helps(row, tmp_path):
    make, args = ROWS[row]
    make(tmp_path)
    message = readable(tmp_path, args)
    advised = re.search(
        r"in data\.args set (.*?)( \(or .*\)|, or a class in place of ignore| if they are .*)?$", message
    )
    assert advised, message
    assert readable(tmp_path, args | yaml.safe_load(f"{{{advised[1]}}}")) == ""
