"""Small folders of images and masks, and recipes that train on them in a moment."""

from pathlib import Path

import numpy as np
from PIL import Image
from tiny import NETWORKS

CLASSES = ("soil", "leaf", "stem")
RECIPE = """
student: {use: "nets.py:Net", args: {channels: 4}}
data:
  use: kd.data.Folders
  args: {root: farm, classes: [soil, leaf, stem], val: 40%}
  size: [32, 32]
  workers: 0
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1, momentum: 0.9}}
train: {steps: 4, batch_size: 2, evaluate_every: 0, save_every: 1, precision: fp32}
log: {every: 1, panels: 0, tensorboard: false}
"""
TAUGHT = "teacher: {recipe: teacher.yaml}\ndistill: {kl: {loss: {use: kd.losses.PixelKL}}}\n"


def picture(number: int) -> tuple[Image.Image, Image.Image]:
    """An image 32 × 32 of three colours, and its mask with class indices."""
    mask = np.zeros((32, 32), np.uint8)
    mask[4 + number % 8 : 16 + number % 8, 4:16] = 1
    mask[24:, :] = 2
    noise = np.random.default_rng(number).integers(0, 40, (32, 32, 3))
    colors = np.array([[60, 40, 20], [20, 160, 40], [180, 180, 60]])
    return Image.fromarray((colors[mask] + noise).astype(np.uint8)), Image.fromarray(mask)


def add(farm: Path, *numbers: int) -> None:
    """Write images and masks of these numbers."""
    for folder in ("images", "masks"):
        (farm / folder).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        image, mask = picture(number)
        image.save(farm / "images" / f"{number}.png")
        mask.save(farm / "masks" / f"{number}.png")


def correct(file: Path) -> None:
    """Exchange leaf and stem in a mask."""
    Image.fromarray(np.array([0, 2, 1], np.uint8)[np.array(Image.open(file))]).save(file)


def write_farm(folder: Path, count: int = 6) -> Path:
    """A farm of some images, `r.yaml` for it, and `student.yaml` that `teacher.yaml` teaches; the first recipe."""
    add(folder / "farm", *range(count))
    (folder / "nets.py").write_text(NETWORKS)
    (folder / "r.yaml").write_text(RECIPE)
    (folder / "teacher.yaml").write_text(RECIPE.replace("channels: 4", "channels: 8"))
    (folder / "student.yaml").write_text(RECIPE + TAUGHT)
    return folder / "r.yaml"
