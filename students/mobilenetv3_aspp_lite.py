"""MobileNetV3-Small with a light ASPP and a depthwise decoder."""

import torch
from torch import Tensor, nn

from kd.networks.backbones import mobilenet_v3_small
from kd.networks.context import ASPP
from kd.networks.decoders import Heads
from kd.networks.layers import SeparableConv, conv_norm_act, init_kaiming, upsample_to
from kd.networks.normalize import Normalize
from kd.types import SegmentationOutput, Tap


class MobileNetV3SmallASPPLite(nn.Module):
    """`MobileNetV3SmallASPP` with 63 % fewer parameters: a narrow ASPP and a decoder of two depthwise stages.

    ASPP has the rates 1, 6, 12 and pooling. The first stage fuses its map with the one at stride 8, the second the
    result with the one at stride 4.

    Taps at width 1: `low` 16 channels at stride 4, `mid` 24 at 8, `high` 48 at 16, `encoder` 576 at 16, `aspp` 128 at
    16, `stage1` 128 at 8, `decoder` 128 at 4. 2,516,853 parameters at 21 classes.

    Source: encoder Howard et al., ICCV 2019, arXiv:1905.02244; head after Chen et al., ECCV 2018, arXiv:1802.02611.
    Differs: BatchNorm momentum 0.1 in the encoder, for training from scratch.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        width: factor of the encoder's channels, above 0.
        activation: of the encoder, hardswish or relu6.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/4, W/4).

    Raises:
        ValueError: `width` is not above 0, or `activation` is not one of these.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, *, width: float = 1.0, activation: str = "hardswish"
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.normalize = Normalize(in_channels)
        self.backbone = mobilenet_v3_small(in_channels, width=width, activation=activation)
        stages = self.backbone.taps
        self.aspp = ASPP(stages["encoder"].channels, 128, (6, 12), dropout=0.1)  # rate 1 is its 1×1 branch
        self.project_mid = conv_norm_act(stages["mid"].channels, 32, 1)
        self.project_low = conv_norm_act(stages["low"].channels, 32, 1)
        self.stage1 = SeparableConv(128 + 32, 128, depthwise_norm=False)
        self.stage2 = SeparableConv(128 + 32, 128, depthwise_norm=False)
        self.classifier = Heads(128, num_classes, dropout=0.1)
        init_kaiming([self.aspp, self.project_mid, self.project_low, self.stage1, self.stage2])
        self.taps: dict[str, Tap] = stages | {"aspp": Tap(128, 16), "stage1": Tap(128, 8), "decoder": Tap(128, 4)}

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 4."""
        features = self.backbone(self.normalize(images))
        mid, low = self.project_mid(features["mid"]), self.project_low(features["low"])
        features["aspp"] = self.aspp(features["encoder"])
        features["stage1"] = self.stage1(torch.cat([upsample_to(features["aspp"], mid), mid], 1))
        features["decoder"] = self.stage2(torch.cat([upsample_to(features["stage1"], low), low], 1))
        logits, members = self.classifier(features["decoder"])
        return SegmentationOutput(logits, features, members)
