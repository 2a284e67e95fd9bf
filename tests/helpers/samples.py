"""Samples and files of samples: for the tests of all code that reads datasets."""

import numpy as np
import torch
from PIL import Image

from kd.types import Sample


class Fixed:
    """A dataset of given samples; an exception among them is raised when it is read."""

    class_names = ("a", "b", "c")
    colors = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    in_channels = 3

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, key):
        item = self.samples[key[0]]
        if isinstance(item, Exception):
            raise item
        return item


def sample(labels, name="a.png"):
    """A sample with these labels and an even image."""
    labels = torch.tensor(labels, dtype=torch.uint8)
    return Sample(torch.full((3, *labels.shape), 100, dtype=torch.uint8), labels, name)


def write_pairs(images, masks, values):
    """Eight images of noise, 30×20, and masks of these values, in two new folders."""
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(8):
        Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(images / f"{index}.png")
        Image.fromarray(random.choice(values, (20, 30)).astype(np.uint8)).save(masks / f"{index}.png")
