"""Shapes: a synthetic dataset drawn in memory, which the demo, the tests and the docs use offline."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kd.types import Sample

Floats = NDArray[np.float32]

_SPLITS = ("train", "val", "test")
_MOST = 1_000_000  # training images
_HELD_OUT = 200  # images of val and of test
_MIN_OBJECTS, _MAX_OBJECTS = 2, 4
_PLAIN, _STRIPES, _CHECKS = 0, 1, 2
_DISC, _RING, _BAR, _HALF, _ALL = 0, 1, 2, 3, 4
_CLASS = np.array([[0, 1, 2], [0, 3, 4], [0, 5, 5], [0, 0, 0], [0, 0, 0]], dtype=np.uint8)  # [shape, texture]


class _Difficulty(NamedTuple):
    """What makes textures and shapes hard to see; lengths are in 64ths of the side."""

    radius: tuple[float, float]
    bar: float  # half of its width
    dark: tuple[float, float]  # the second colour of an object, as a share of the first
    noise: float  # the largest standard deviation, in grey levels
    behind: tuple[float, float, float]  # probabilities that half of the background is plain, striped or checked


_DIFFICULTIES = {
    "easy": _Difficulty((12, 18), 3.2, (0.05, 0.2), 3, (1, 0, 0)),
    "hard": _Difficulty((11, 17), 2.5, (0.1, 0.4), 6, (0.5, 0.25, 0.25)),
}


class Shapes:
    """Textured shapes on a background: six classes that need both shape and texture to tell apart.

    Discs and rings are striped, checked or plain; thin bars are dashed or plain. Striped and checked discs, striped
    and checked rings and dashed bars are classes 1 to 5; all plain objects are background. Colour separates objects
    from the background but carries no other information; objects occlude one another, under uneven light and noise.

    An image is a pure function of (seed, split, index) and the difficulty: the first 100 training images of a set of
    2,000 are those of a set of 100. Val and test are always the same 200 images each, for any `count` and `seed`.

    Args:
        split: "train", "val" or "test".
        count: number of training images.
        size: side of the square images in pixels, at least 32; the objects scale with it.
        in_channels: 3 for colour, 1 for grey.
        seed: selects the training set.
        difficulty: "easy", or "hard": textures of less contrast, also faint ones behind the objects, thinner bars and
            more noise.

    Raises:
        ValueError: an argument is out of range.
    """

    class_names = ("background", "striped disc", "checked disc", "striped ring", "checked ring", "dashed bar")
    colors = ((0, 0, 0), (230, 80, 60), (250, 180, 50), (60, 120, 230), (90, 200, 230), (120, 210, 90))

    def __init__(
        self,
        split: str,
        count: int = 200,
        size: int = 64,
        in_channels: int = 3,
        seed: int = 0,
        difficulty: str = "easy",
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(f"Shapes: split must be one of {', '.join(_SPLITS)}, got '{split}'")
        if not 1 <= count <= _MOST:
            raise ValueError(f"Shapes: count must be 1 to {_MOST:,}, got {count:,}")
        if size < 32:
            raise ValueError(f"Shapes: size must be at least 32, where textures are still visible, got {size}")
        if in_channels not in (1, 3):
            raise ValueError(f"Shapes: in_channels must be 1 or 3, got {in_channels}")
        if seed < 0:
            raise ValueError(f"Shapes: seed must be at least 0, got {seed}")
        if difficulty not in _DIFFICULTIES:
            raise ValueError(f"Shapes: difficulty must be {' or '.join(_DIFFICULTIES)}, got '{difficulty}'")
        self.split, self.size, self.in_channels, self.difficulty = split, size, in_channels, difficulty
        self.length = count if split == "train" else _HELD_OUT
        self.seed = seed if split == "train" else 0
        self.names = tuple(f"shapes/{split}/{index}" for index in range(self.length))
        self.drawn: dict[int, Sample] = {}  # 2,000 images at 64 × 64: 33 MB, or seconds an epoch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The image `index`; all views are the same."""
        index = key[0]
        if not 0 <= index < self.length:
            raise IndexError(f"Shapes: no image {index}; there are {self.length}")
        if index not in self.drawn:
            self.drawn[index] = self._sample(index)
        return self.drawn[index]

    def files(self, index: int) -> tuple[Path, ...]:
        """None: images are drawn."""
        return ()

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image."""
        return self.size, self.size

    def _sample(self, index: int) -> Sample:
        rng = np.random.default_rng((self.seed, _SPLITS.index(self.split), index))
        image, labels = _draw(rng, self.size, _DIFFICULTIES[self.difficulty])
        pixels = torch.from_numpy(image)  # (3, H, W)
        if self.in_channels == 1:
            pixels = pixels.float().mean(0, keepdim=True).to(torch.uint8)
        return Sample(pixels, torch.from_numpy(labels), self.names[index])


def _draw(rng: np.random.Generator, size: int, hard: _Difficulty) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One image uint8 (3, H, W) and its labels uint8 (H, W)."""
    # All lengths are in 64ths of the side.
    axis: Floats = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(64 / size)
    # Layers from back to front: a plain background, a half plane, the objects.
    objects = int(rng.integers(_MIN_OBJECTS, _MAX_OBJECTS + 1))
    shape = np.concatenate(([_ALL, _HALF], rng.choice(3, objects, p=(0.35, 0.35, 0.3))))
    texture = np.concatenate(([_PLAIN], rng.choice(3, 1, p=hard.behind), rng.choice(3, objects, p=(0.14, 0.43, 0.43))))
    texture[(shape == _BAR) & (texture == _CHECKS)] = _STRIPES  # a bar is too thin for checks
    layers = len(shape)

    centre = rng.uniform(4, 60, (layers, 2)).astype(np.float32)
    # Discs and rings rotate little: the angle of a texture must not reveal a bar.
    cos, sin = _cos_sin(rng.uniform(-1, 1, layers) * np.where(shape <= _RING, 0.2, np.pi))
    dx, dy = axis - centre[:, 0, None], axis - centre[:, 1, None]  # (layers, W), (layers, H)
    u = (cos[:, None] * dx)[:, None, :] + (sin[:, None] * dy)[:, :, None]  # (layers, H, W), along each shape
    v = (cos[:, None] * dy)[:, :, None] - (sin[:, None] * dx)[:, None, :]  # and across it
    inside = _inside(shape, u, v, rng.uniform(*hard.radius, layers).astype(np.float32), hard.bar)
    front = layers - 1 - inside[::-1].argmax(0)  # (H, W): the visible layer
    u, v = (np.take_along_axis(axes, front[None], 0)[0] for axes in (u, v))

    cos, sin = _cos_sin(np.where(shape == _BAR, 0, rng.integers(0, 2, layers) * np.pi / 2))  # dashes cross a bar
    period = (rng.uniform(6, 8, layers) * np.where(texture == _STRIPES, 1.6, 1)).astype(np.float32)[front]
    phase = rng.uniform(0, 1, (2, layers)).astype(np.float32)[:, front]
    stripes = ((cos[front] * u + sin[front] * v) / period + phase[0]) % 1 < 0.5
    across = ((cos[front] * v - sin[front] * u) / period + phase[1]) % 1 < 0.5
    second = (texture[front] != _PLAIN) & (stripes ^ (across & (texture[front] == _CHECKS)))

    bright = (shape < _HALF)[:, None]  # objects are bright; their class depends on shape and texture only
    color = rng.uniform(130 * bright, 80 + 175 * bright, (layers, 3))
    other = np.where(bright, color * rng.uniform(*hard.dark, (layers, 1)), color + rng.uniform(20, 50, (layers, 1)))
    image = np.stack((color, other)).astype(np.float32)[second.astype(np.intp), front]  # (H, W, 3)
    slope = rng.uniform(-0.4, 0.4, 2)
    light = rng.uniform(0.6, 1.1) + slope[0] * (axis[:, None] / 64 - 0.5) + slope[1] * (axis / 64 - 0.5)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2, hard.noise))
    image = image * light.astype(np.float32)[..., None] + noise
    return np.ascontiguousarray(image.clip(0, 255).astype(np.uint8).transpose(2, 0, 1)), _CLASS[shape, texture][front]


def _inside(shape: NDArray[np.int64], u: Floats, v: Floats, radius: Floats, bar: float) -> NDArray[np.bool_]:
    """(layers, H, W): the pixels of each layer."""
    inside = np.ones(u.shape, dtype=np.bool_)
    for i, kind in enumerate(shape):
        if kind == _DISC:
            inside[i] = u[i] ** 2 + v[i] ** 2 < radius[i] ** 2
        elif kind == _RING:
            squared = (u[i] ** 2 + v[i] ** 2) / radius[i] ** 2
            inside[i] = (squared > 0.25) & (squared < 1.35)  # 1.1 times the area of the disc
        elif kind == _BAR:
            inside[i] = (np.abs(u[i]) < 1.6 * radius[i]) & (np.abs(v[i]) < bar)
        elif kind == _HALF:
            inside[i] = v[i] < 0
    return inside


def _cos_sin(angle: NDArray[np.float64]) -> tuple[Floats, Floats]:
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
