"""U-Net on MobileNetV2."""

import torch
from torch import Tensor, nn

from kd.networks.backbones import mobilenet_v2
from kd.networks.decoders import Heads
from kd.networks.layers import SeparableConv, conv_norm_act, init_kaiming, upsample_to
from kd.networks.normalize import Normalize
from kd.types import SegmentationOutput, Tap

SKIPS = ("high", "mid", "low", "stem")  # strides 16, 8, 4, 2
WIDTHS = (256, 128, 64, 32)


class MobileNetV2UNet(nn.Module):
    """MobileNetV2 up to its 320-channel stage, and four depthwise-separable decoder stages with skips.

    Taps: `stem` (32 channels, stride 2), `block1` 16 at 2, `low` 24 at 4, `mid` 32 at 8, `high` 96 at 16, `encoder`
    320 at 32; `bridge` 512 at 32; `decoder1` … `decoder4` with 256, 128, 64, 32 at 16, 8, 4, 2. 3,506,845 parameters
    at 7 classes with three heads.

    Source: Sandler et al., CVPR 2018, arXiv:1801.04381, and Ronneberger et al., "U-Net", MICCAI 2015,
    arXiv:1505.04597.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        heads: 1, or 3 heads whose mean is the result; `aux` holds each of them.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/2, W/2).

    Raises:
        ValueError: `heads` is neither 1 nor 3.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, *, heads: int = 1) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.normalize = Normalize(in_channels)
        self.backbone = mobilenet_v2(in_channels)
        self.taps: dict[str, Tap] = self.backbone.taps | {"bridge": Tap(512, 32)}
        self.bridge = conv_norm_act(self.taps["encoder"].channels, 512)
        self.decoder = nn.ModuleList()
        channels = 512
        for i, (skip, width) in enumerate(zip(SKIPS, WIDTHS, strict=True), 1):
            self.decoder.append(SeparableConv(channels + self.taps[skip].channels, width, depthwise_norm=True))
            self.taps[f"decoder{i}"] = Tap(width, self.taps[skip].stride)
            channels = width
        self.classifier = Heads(channels, num_classes, heads)
        init_kaiming([self.bridge, self.decoder])

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 2."""
        features = self.backbone(self.normalize(images))
        maps = features["bridge"] = self.bridge(features["encoder"])
        for i, (stage, skip) in enumerate(zip(self.decoder, SKIPS, strict=True), 1):
            maps = stage(torch.cat([upsample_to(maps, features[skip]), features[skip]], 1))
            features[f"decoder{i}"] = maps
        logits, members = self.classifier(maps)
        return SegmentationOutput(logits, features, members)
