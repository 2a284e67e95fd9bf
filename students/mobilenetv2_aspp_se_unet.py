"""A frozen MobileNetV2 under ASPP and a residual squeeze-and-excitation decoder."""

from torch import Tensor, nn

from kd.networks.backbones import mobilenet_v2
from kd.networks.context import ASPP
from kd.networks.decoders import Heads, ResidualSEUp
from kd.networks.layers import group_norm, init_kaiming
from kd.networks.normalize import Normalize
from kd.types import SegmentationOutput, Tap

SKIPS = ("high", "mid", "low", "block1", "full")  # strides 16, 8, 4, 2, 1
WIDTHS = (256, 128, 64, 32, 32)


class MobileNetV2ASPPResidualSEUNet(nn.Module):
    """A frozen pretrained encoder, ASPP (rates 6, 12, 18, GroupNorm) and five decoder stages to full resolution.

    The encoder needs pretrained weights (`weights: imagenet`, or a file), since it does not train. It stays frozen
    through `train()`, BatchNorm statistics too, until one of its parameters requires a gradient.

    Taps: `stem` (32 channels, stride 2), `block1` 16 at 2, `low` 24 at 4, `mid` 32 at 8, `high` 96 at 16, `encoder`
    1280 at 32; `full` 32 at 1; `aspp` 512 at 32; `decoder1` … `decoder5` with 256, 128, 64, 32, 32 at 16, 8, 4, 2, 1.
    25,253,893 parameters at one channel and one class: 23,030,597 trainable, 2,223,296 frozen.

    Source: Sandler et al., CVPR 2018, arXiv:1801.04381; Chen et al., 2017, arXiv:1706.05587; Hu et al., CVPR 2018,
    arXiv:1709.01507; Ronneberger et al., MICCAI 2015, arXiv:1505.04597.

    Args:
        num_classes: K; 1 for foreground and background with one sigmoid.
        in_channels: channels of an image; loading converts weights for RGB to this number.
        frozen: whether the encoder is frozen.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H, W).
    """

    def __init__(self, num_classes: int, in_channels: int = 3, *, frozen: bool = True) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.normalize = Normalize(in_channels)
        self.backbone = mobilenet_v2(in_channels, expanded=True)
        self.full = nn.Sequential(nn.Conv2d(in_channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.aspp = ASPP(self.backbone.taps["encoder"].channels, 512, norm=group_norm)
        self.taps: dict[str, Tap] = self.backbone.taps | {"full": Tap(32, 1), "aspp": Tap(512, 32)}
        self.decoder = nn.ModuleList()
        channels = 512
        for i, (skip, width) in enumerate(zip(SKIPS, WIDTHS, strict=True), 1):
            self.decoder.append(ResidualSEUp(channels, self.taps[skip].channels, width))
            self.taps[f"decoder{i}"] = Tap(width, self.taps[skip].stride)
            channels = width
        self.classifier = Heads(channels, num_classes, dropout=0.0)
        init_kaiming([self.full, self.aspp, self.decoder])
        self.backbone.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> "MobileNetV2ASPPResidualSEUNet":
        """Set the mode, but keep a frozen encoder in evaluation mode, so that its statistics do not change."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 1."""
        images = self.normalize(images)
        features = self.backbone(images)
        features["full"] = self.full(images)
        maps = features["aspp"] = self.aspp(features["encoder"])
        for i, (stage, skip) in enumerate(zip(self.decoder, SKIPS, strict=True), 1):
            maps = features[f"decoder{i}"] = stage(maps, features[skip])
        logits, members = self.classifier(maps)
        return SegmentationOutput(logits, features, members)
