"""A dilated ResNet under a head: the shape of torchvision's segmentation networks."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from kd.networks.backbones import resnet
from kd.networks.layers import PooledBatchNorm2d
from kd.networks.normalize import Normalize
from kd.types import SegmentationOutput, Tap


class ResNetWithHead(nn.Module):
    """A ResNet at output stride 8 under a head, with the state-dict keys of torchvision's networks.

    Taps: `layer1` (stride 4), `layer2`, `layer3`, `layer4` (8); `low`, `mid`, `high` are the first three.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        backbone: resnet18, resnet34, resnet50 or resnet101.
        head: called with the channels of `layer4` and K; returns the modules that run on `layer4`.
        context: the name of a tap at the output of the head's first module, and its channels; None for no such tap.
        aux: add torchvision's auxiliary head on `layer3`, as `aux.aux`.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/8, W/8).

    Raises:
        ValueError: `backbone` is not one of these.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        backbone: str,
        head: Callable[[int, int], nn.Sequential],
        context: tuple[str, int] | None,
        aux: bool,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.normalize = Normalize(in_channels)
        self.backbone = resnet(backbone, in_channels, output_stride=8)
        self.taps = dict(self.backbone.taps)
        self.classifier = head(self.taps["layer4"].channels, num_classes)
        self.aux_classifier = FCNHead(self.taps["layer3"].channels, num_classes) if aux else None
        self.context = None if context is None else context[0]
        if context is not None:
            self.taps[context[0]] = Tap(context[1], 8)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 8."""
        features = self.backbone(self.normalize(images))
        first, *others = self.classifier
        logits = first(features["layer4"])
        if self.context is not None:
            features[self.context] = logits
        for module in others:
            logits = module(logits)
        aux = {} if self.aux_classifier is None else {"aux": self.aux_classifier(features["layer3"])}
        return SegmentationOutput(logits, features, aux)


def deeplabv3_head(in_channels: int, num_classes: int) -> nn.Sequential:
    """Torchvision's DeepLabV3 head, with a `PooledBatchNorm2d` in its pooling branch, so that one image trains."""
    head: nn.Sequential = DeepLabHead(in_channels, num_classes)
    pooling: Any = head[0]
    pooling.convs[-1][2] = PooledBatchNorm2d(256)
    return head
