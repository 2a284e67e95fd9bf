"""Networks that teach; any of them may learn too."""

from teachers.deeplabv3 import DeepLabV3ResNet50
from teachers.deeplabv3plus import DeepLabV3Plus
from teachers.fcn import FCNResNet50

__all__ = ["DeepLabV3Plus", "DeepLabV3ResNet50", "FCNResNet50"]
