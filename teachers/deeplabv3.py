"""DeepLabV3 on a dilated ResNet."""

from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from kd.backbones import resnet
from kd.layers import Normalize, PooledBatchNorm2d
from kd.types import SegmentationOutput, Tap


class DeepLabV3ResNet50(nn.Module):
    """torchvision's DeepLabV3: a dilated ResNet and atrous spatial pyramid pooling (rates 12, 24, 36).

    Taps: `layer1` (stride 4), `layer2`, `layer3`, `layer4` (8); `low`, `mid`, `high` are the first three; `aspp`.
    State-dict keys are torchvision's, so `weights: DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1` loads. The
    BatchNorm of the pooling branch is a `PooledBatchNorm2d`, so that one image trains.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, arXiv:1706.05587, in
    torchvision's form. 39,638,869 parameters at 21 classes, 42,004,074 with the auxiliary head.

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
        stages = self.backbone.taps
        self.classifier = DeepLabHead(stages["layer4"].channels, num_classes)
        self.classifier[0].convs[-1][2] = PooledBatchNorm2d(256)
        self.aux_classifier = FCNHead(stages["layer3"].channels, num_classes) if aux else None
        self.taps: dict[str, Tap] = stages | {"aspp": Tap(256, 8)}

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 8."""
        features = self.backbone(self.normalize(images))
        aux = {} if self.aux_classifier is None else {"aux": self.aux_classifier(features["layer3"])}
        aspp, *behind = self.classifier
        logits = features["aspp"] = aspp(features["layer4"])
        for module in behind:
            logits = module(logits)
        return SegmentationOutput(logits, features, aux)
