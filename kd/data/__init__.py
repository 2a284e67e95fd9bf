"""Datasets and transforms of their samples; the modules of this package read, split and batch them."""

from kd.data.ade20k import ADE20K
from kd.data.camvid import CamVid
from kd.data.cityscapes import Cityscapes
from kd.data.folders import Folders
from kd.data.geometric import RandomAspect, RandomFlip, RandomRotate, RandomScale, RandomShift
from kd.data.hc18 import HC18
from kd.data.huggingface import HuggingFace
from kd.data.pascal_voc import PascalVOC
from kd.data.photometric import ColorJitter, RandomBlur
from kd.data.shapes import Shapes
from kd.data.suim import SUIM

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
