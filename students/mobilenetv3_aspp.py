"""MobileNetV3-Small with ASPP and the decoder of DeepLabV3+."""

from torch import Tensor, nn

from kd.networks.backbones import mobilenet_v3_small
from kd.networks.context import ASPP
from kd.networks.decoders import Heads, LowLevelDecoder
from kd.networks.layers import init_kaiming
from kd.networks.normalize import Normalize
from kd.types import SegmentationOutput, Tap


class MobileNetV3SmallASPP(nn.Module):
    """A small encoder under a full-size head: ASPP (rates 6, 12, 18) and a decoder with a skip at stride 4.

    Taps at width 1: `low` 16 channels at stride 4, `mid` 24 at 8, `high` 48 at 16, `encoder` 576 at 16, `aspp` 256 at
    16, `decoder` 256 at 4. 6,831,509 parameters at 21 classes.

    Source: encoder Howard et al., ICCV 2019, arXiv:1905.02244; head Chen et al., ECCV 2018, arXiv:1802.02611.
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
        self.aspp = ASPP(stages["encoder"].channels, 256)
        self.decoder = LowLevelDecoder(256, stages["low"].channels, 48, 256)
        self.classifier = Heads(256, num_classes, dropout=0.5)
        init_kaiming([self.aspp, self.decoder])
        self.taps: dict[str, Tap] = stages | {"aspp": Tap(256, 16), "decoder": Tap(256, 4)}

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 4."""
        features = self.backbone(self.normalize(images))
        features["aspp"] = self.aspp(features["encoder"])
        features["decoder"] = self.decoder(features["aspp"], features["low"])
        logits, members = self.classifier(features["decoder"])
        return SegmentationOutput(logits, features, members)
