"""LR-ASPP on MobileNetV3-Large."""

from torch import Tensor, nn
from torchvision.models.segmentation.lraspp import LRASPPHead

from kd.networks.backbones import mobilenet_v3_large
from kd.networks.normalize import Normalize
from kd.types import SegmentationOutput, Tap


class LRASPPMobileNetV3Large(nn.Module):
    """Torchvision's LR-ASPP: a light head on MobileNetV3-Large's maps at strides 8 and 16.

    Taps: `low` 24 channels at stride 4, `mid` 40 at 8, `high` 112 at 16, `encoder` 960 at 16; the head reads
    `block4`, 40 at 8, and `encoder`. State-dict keys are torchvision's, so
    `weights: LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1` (21 classes) loads.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244, in torchvision's form. Differs:
    BatchNorm momentum 0.1 in the encoder. 3,221,538 parameters at 21 classes.

    Args:
        num_classes: K.
        in_channels: channels of an image.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/8, W/8).
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.normalize = Normalize(in_channels)
        self.backbone = mobilenet_v3_large(in_channels)
        self.taps: dict[str, Tap] = self.backbone.taps
        read = self.taps["block4"].channels, self.taps["encoder"].channels
        self.classifier = LRASPPHead(*read, num_classes, inter_channels=128)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 8."""
        features = self.backbone(self.normalize(images))
        logits = self.classifier({"low": features["block4"], "high": features["encoder"]})
        return SegmentationOutput(logits, features, {})
