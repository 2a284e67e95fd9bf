"""The networks meant as students; each of them works as a teacher too."""

from students.deeplabv3_resnet18 import DeepLabV3ResNet18
from students.lraspp_mobilenetv3_large import LRASPPMobileNetV3Large
from students.mobilenetv2_aspp_se_unet import MobileNetV2ASPPResidualSEUNet
from students.mobilenetv2_unet import MobileNetV2UNet
from students.mobilenetv3_aspp import MobileNetV3SmallASPP
from students.mobilenetv3_aspp_lite import MobileNetV3SmallASPPLite
from students.pruned import Pruned
from students.pspnet_resnet18 import PSPNetResNet18

__all__ = [
    "DeepLabV3ResNet18",
    "LRASPPMobileNetV3Large",
    "MobileNetV2ASPPResidualSEUNet",
    "MobileNetV2UNet",
    "MobileNetV3SmallASPP",
    "MobileNetV3SmallASPPLite",
    "PSPNetResNet18",
    "Pruned",
]
