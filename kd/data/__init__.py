"""Datasets and transforms of their samples; the modules of this package read, split and batch them."""

from kd.data.camvid import CamVid
from kd.data.folders import Folders
from kd.data.geometric import RandomAspect, RandomFlip, RandomRotate, RandomScale, RandomShift
from kd.data.pascal_voc import PascalVOC
from kd.data.photometric import ColorJitter, RandomBlur
from kd.data.shapes import Shapes

__all__ = [
    "CamVid",
    "ColorJitter",
    "Folders",
    "PascalVOC",
    "RandomAspect",
    "RandomBlur",
    "RandomFlip",
    "RandomRotate",
    "RandomScale",
    "RandomShift",
    "Shapes",
]
