"""Attention U-Net on ResNet-50."""

import torch
from torch import Tensor, nn

from kd.networks.backbones import resnet
from kd.networks.decoders import AttentionGate, Heads
from kd.networks.layers import SqueezeExcite, conv_norm_act, init_kaiming, upsample_to
from kd.networks.normalize import Normalize
from kd.types import SegmentationOutput, Tap

SKIPS = ("layer3", "layer2", "layer1", "stem")  # strides 16, 8, 4, 2
WIDTHS = (512, 256, 128, 64)


class ResNet50AttentionUNet(nn.Module):
    """ResNet-50 and a U-Net decoder with attention gates on its skips and squeeze-and-excitation in each stage.

    Taps: `stem` (64 channels, stride 2), `layer1` 256 at 4, `layer2` 512 at 8, `layer3` 1024 at 16, `layer4` 2048 at
    32; `low`, `mid`, `high` are the first three layers; `bridge` 1024 at 32; `decoder1` … `decoder4` with 512, 256,
    128, 64 at 16, 8, 4, 2. 74,490,068 parameters at 8 classes.

    Source: Oktay et al., "Attention U-Net", MIDL 2018, arXiv:1804.03999; He et al., CVPR 2016, arXiv:1512.03385; Hu et
    al., CVPR 2018, arXiv:1709.01507.

    Args:
        num_classes: K.
        in_channels: channels of an image.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H, W).
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.normalize = Normalize(in_channels)
        self.backbone = resnet("resnet50", in_channels)
        self.taps: dict[str, Tap] = self.backbone.taps | {"bridge": Tap(1024, 32)}
        self.bridge = nn.Sequential(conv_norm_act(2048, 1024, bias=True), conv_norm_act(1024, 1024, bias=True))
        self.decoder = nn.ModuleList()
        channels = 1024
        for i, (skip, width) in enumerate(zip(SKIPS, WIDTHS, strict=True), 1):
            self.decoder.append(GatedUp(channels, self.taps[skip].channels, width))
            self.taps[f"decoder{i}"] = Tap(width, self.taps[skip].stride)
            channels = width
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.classifier = Heads(channels, num_classes, dropout=0.0)
        init_kaiming([self.bridge, self.decoder, self.up])

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 1."""
        features = self.backbone(self.normalize(images))
        maps = features["bridge"] = self.bridge(features["layer4"])
        for i, (stage, skip) in enumerate(zip(self.decoder, SKIPS, strict=True), 1):
            maps = features[f"decoder{i}"] = stage(maps, features[skip])
        logits, members = self.classifier(upsample_to(self.up(maps), images))
        return SegmentationOutput(logits, features, members)


class GatedUp(nn.Module):
    """A decoder stage: doubles the size, gates the skip, and fuses both with two 3×3 convolutions and an SE.

    Args:
        in_channels: channels of the coarse map.
        skip_channels: channels of the encoder's map.
        out_channels: channels of the result, and of the projections inside the gate.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2)
        self.gate = AttentionGate(in_channels, skip_channels, out_channels)
        self.fuse = nn.Sequential(
            conv_norm_act(in_channels + skip_channels, out_channels, bias=True),
            conv_norm_act(out_channels, out_channels, bias=True),
            SqueezeExcite(out_channels, bias=False),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Coarse map and skip to (N, out_channels, h, w) at the skip's size."""
        x = upsample_to(self.up(x), skip)
        return self.fuse(torch.cat([x, self.gate(x, skip)], 1))  # type: ignore[no-any-return]
