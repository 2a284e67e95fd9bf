"""Datasets and the transforms of their samples; how they are split, read and batched is in the files below."""

from kd.data.camvid import CamVid
from kd.data.folders import Folders
from kd.data.shapes import Shapes
from kd.data.transforms import ColorJitter, RandomBlur, RandomFlip, RandomRotate, RandomScale

__all__ = [
    "CamVid",
    "ColorJitter",
    "Folders",
    "RandomBlur",
    "RandomFlip",
    "RandomRotate",
    "RandomScale",
    "Shapes",
]
