"""Datasets and transforms of their samples; the modules of this package read, split and batch them."""

from kd.data.camvid import CamVid
from kd.data.folders import Folders
from kd.data.pascal_voc import PascalVOC
from kd.data.shapes import Shapes
from kd.data.transforms import ColorJitter, RandomBlur, RandomFlip, RandomRotate, RandomScale

__all__ = [
    "CamVid",
    "ColorJitter",
    "Folders",
    "PascalVOC",
    "RandomBlur",
    "RandomFlip",
    "RandomRotate",
    "RandomScale",
    "Shapes",
]
