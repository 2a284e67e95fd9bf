"""The networks meant as teachers; each of them works as a student too."""

from teachers.aspp_residual_se_unet import ASPPResidualSEUNet
from teachers.attention_unet import ResNet50AttentionUNet
from teachers.classmapped import ClassMapped
from teachers.deeplabv3 import DeepLabV3ResNet50, DeepLabV3ResNet101
from teachers.deeplabv3plus import DeepLabV3Plus, DeepLabV3PlusResNet50
from teachers.ensemble import Ensemble
from teachers.fcn import FCNResNet50
from teachers.huggingface import HuggingFace
from teachers.smp import SMP
from teachers.timm import Timm
from teachers.wrap import Wrapped

__all__ = [
    "SMP",
    "ASPPResidualSEUNet",
    "ClassMapped",
    "DeepLabV3Plus",
    "DeepLabV3PlusResNet50",
    "DeepLabV3ResNet50",
    "DeepLabV3ResNet101",
    "Ensemble",
    "FCNResNet50",
    "HuggingFace",
    "ResNet50AttentionUNet",
    "Timm",
    "Wrapped",
]
