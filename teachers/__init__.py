"""Networks that teach; any of them may learn too."""

from teachers.attention_unet import ResNet50AttentionUNet
from teachers.deeplabv3 import DeepLabV3ResNet50, DeepLabV3ResNet101
from teachers.deeplabv3plus import DeepLabV3Plus, DeepLabV3PlusResNet50
from teachers.fcn import FCNResNet50
from teachers.unet_resattn import ASPPResidualSEUNet

__all__ = [
    "ASPPResidualSEUNet",
    "DeepLabV3Plus",
    "DeepLabV3PlusResNet50",
    "DeepLabV3ResNet50",
    "DeepLabV3ResNet101",
    "FCNResNet50",
    "ResNet50AttentionUNet",
]
