"""FCN on a dilated ResNet."""

from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from kd.backbones import resnet
from kd.layers import Normalize
from kd.types import SegmentationOutput, Tap


class FCNResNet50(nn.Module):
    """torchvision's fully convolutional network: a dilated ResNet and one 3×3 convolution.

    Taps: `layer1` (stride 4), `layer2`, `layer3`, `layer4` (8); `low`, `mid`, `high` are the first three.
    State-dict keys are torchvision's, so `weights: FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1` loads.

    Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, arXiv:1411.4038, in
    torchvision's form. 32,957,013 parameters at 21 classes, 35,322,218 with the auxiliary head.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        backbone: resnet18, resnet34, resnet50 or resnet101.
        aux: add torchvision's auxiliary head on `layer3`, as `aux.aux`.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/8, W/8).

    Raises:
        ValueError: an unknown backbone.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, *, backbone: str = "resnet50", aux: bool = False
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.normalize = Normalize(in_channels)
        self.backbone = resnet(backbone, in_channels, output_stride=8)
        self.taps: dict[str, Tap] = self.backbone.taps
        self.classifier = FCNHead(self.taps["layer4"].channels, num_classes)
        self.aux_classifier = FCNHead(self.taps["layer3"].channels, num_classes) if aux else None

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 8."""
        features = self.backbone(self.normalize(images))
        aux = {} if self.aux_classifier is None else {"aux": self.aux_classifier(features["layer3"])}
        return SegmentationOutput(self.classifier(features["layer4"]), features, aux)
