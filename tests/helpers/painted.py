"""Images whose classes are known, and networks that find them, for tests of scores."""

from typing import NamedTuple

import torch
from torch import nn

from kd.machine import Precision
from kd.types import Sample, SegmentationOutput

CPU = Precision(torch.device("cpu"), torch.float32, torch.contiguous_format)


class Painted(NamedTuple):
    """Three images whose red channel encodes the class; label maps of different sizes."""

    class_names: tuple[str, ...] = ("dark", "bright")
    colors: tuple[tuple[int, int, int], ...] = ((0, 0, 0), (255, 255, 255))
    in_channels: int = 3

    def __len__(self):
        return 3

    def __getitem__(self, key):
        index, _ = key
        height = 8 * (index + 1)
        image = torch.zeros(3, height, 8, dtype=torch.uint8)
        image[0, :, 4:] = 255
        labels = torch.zeros(height, 8, dtype=torch.uint8)
        labels[:, 4:] = 1
        labels[0] = 255
        return Sample(image, labels, f"image {index}")


class Red(nn.Module):
    """Predicts "bright" where red is above a half."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm2d(3).eval()
        self.norm = nn.BatchNorm2d(3)
        self.was_training = None

    def forward(self, images):
        self.was_training = self.norm.training
        return SegmentationOutput(images[:, :1] - 0.5, {}, {})


class Where(nn.Module):
    """Two classes from one convolution and the column of a pixel; records the sizes of its inputs."""

    def __init__(self, *, left=0.0):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        nn.init.normal_(self.conv.weight, std=3.0, generator=torch.Generator().manual_seed(0))
        self.left, self.sizes = left, []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        logits = self.conv(images)
        logits[:, 1] += self.left * torch.linspace(1, -1, images.shape[3])
        return SegmentationOutput(logits, {}, {})
