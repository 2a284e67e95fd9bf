"""Random data sets whose defects are known: objects of several classes, each with its colour and texture."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NAMES = ("ground", "disc", "block", "bar", "wedge", "ring")


class MadeSet(NamedTuple):
    """A data set in memory; nothing of it is wrong."""

    classes: tuple[str, ...]
    train: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]  # (image (H, W, 3), labels (H, W))
    val: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


def made_set(seed: int, train: int = 24, val: int = 10) -> MadeSet:
    """A data set that depends on the seed: 2 to 5 classes, grey or colour, sizes, noise, light and textures.

    The classes differ in tone or colour by more than noise and light do: what no image shows, nobody can find.
    """
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 6))
    colored = bool(random.random() < 0.7)
    colors = _colors(random, count, colored)
    sizes = random.integers(60, 130, (3 if random.random() < 0.3 else 1, 2))
    look = {
        "colors": colors,
        "stripes": random.uniform(0, 15, count),
        "period": random.integers(4, 12, count),
        "noise": float(random.uniform(4, 12)),
        "light": float(random.uniform(0, 20)),
        "jitter": float(random.uniform(0, 8)),
    }

    def sample(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        height, width = random.choice(sizes).tolist()
        labels = _labels(random, (height, width), count, number)
        return _image(random, labels, look), labels

    return MadeSet(NAMES[:count], [sample(i) for i in range(train)], [sample(i) for i in range(val)])


def write_set(folder: Path, made: MadeSet) -> None:
    """Write `train/images/0.png`, `train/masks/0.png` and so on."""
    for split in ("train", "val"):
        for number, (image, labels) in enumerate(getattr(made, split)):
            for kind, pixels in (("images", image), ("masks", labels)):
                file = folder / split / kind / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(file, compress_level=1)


def _colors(random: np.random.Generator, count: int, colored: bool) -> NDArray[np.float64]:
    """The colours of the classes, at least 60 levels apart; of grey ones, 35."""
    while True:
        colors = random.uniform(30, 225, (count, 3))
        if not colored:
            colors[:] = colors.mean(1, keepdims=True)
        apart = np.abs(colors[:, None] - colors[None]).max(2) + 999 * np.eye(count)
        if apart.min() >= (60 if colored else 35):
            return colors


def _labels(random: np.random.Generator, size: tuple[int, int], count: int, number: int) -> NDArray[np.uint8]:
    """Ground with objects of the other classes; one of a class that depends on the number is always there."""
    height, width = size
    rows, columns = np.mgrid[:height, :width].astype(float)
    labels = np.zeros(size, np.uint8)
    objects = [*random.integers(1, count, int(random.integers(2, 6))), 1 + number % (count - 1)]
    for label in objects:
        row, column = random.uniform(0.15, 0.85, 2) * size
        high, wide = random.uniform(0.08, 0.25, 2) * size
        turn = random.uniform(0, np.pi)
        down = (rows - row) * np.cos(turn) + (columns - column) * np.sin(turn)
        right = (columns - column) * np.cos(turn) - (rows - row) * np.sin(turn)
        round_one = random.random() < 0.5
        inside = (down / high) ** 2 + (right / wide) ** 2 < 1 if round_one else (abs(down) < high) & (abs(right) < wide)
        labels[inside] = label
    return labels


def _image(random: np.random.Generator, labels: NDArray[np.uint8], look: dict[str, Any]) -> NDArray[np.uint8]:
    height, width = labels.shape
    rows, columns = np.mgrid[:height, :width].astype(float)
    stripes = np.sin(2 * np.pi * (rows + columns * random.choice([-1, 1])) / look["period"][labels])
    image = (
        look["colors"][labels]
        + random.normal(0, look["jitter"], 3).mean()
        + (look["stripes"][labels] * stripes)[..., None]
    )
    slope = random.uniform(-1, 1, 2)
    image += look["light"] * (slope[0] * (rows / height - 0.5) + slope[1] * (columns / width - 0.5))[..., None]
    image += random.normal(0, look["noise"], (height, width, 1))
    return np.clip(image.round(), 0, 255).astype(np.uint8)
