"""Datasets and transforms of their samples; the modules of this package read, split and batch them."""

from kd.data.datasets.ade20k import ADE20K
from kd.data.datasets.camvid import CamVid
from kd.data.datasets.cityscapes import Cityscapes
from kd.data.datasets.folders import Folders
from kd.data.datasets.hc18 import HC18
from kd.data.datasets.huggingface import HuggingFace
from kd.data.datasets.pascal_voc import PascalVOC
from kd.data.datasets.shapes import Shapes
from kd.data.datasets.suim import SUIM
from kd.data.transforms.geometric import RandomAspect, RandomFlip, RandomRotate, RandomScale, RandomShift
from kd.data.transforms.photometric import ColorJitter, RandomBlur

__all__ = [
    "ADE20K",
    "HC18",
    "SUIM",
    "CamVid",
    "Cityscapes",
    "ColorJitter",
    "Folders",
    "HuggingFace",
    "PascalVOC",
    "RandomAspect",
    "RandomBlur",
    "RandomFlip",
    "RandomRotate",
    "RandomScale",
    "RandomShift",
    "Shapes",
]
