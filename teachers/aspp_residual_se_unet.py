"""A U-Net of residual squeeze-and-excitation blocks with ASPP."""

from torch import Tensor, nn

from kd.networks.context import ASPP
from kd.networks.decoders import Heads, ResidualSEUp
from kd.networks.layers import ResidualSE, group_norm, init_kaiming
from kd.networks.normalize import Normalize
from kd.types import SegmentationOutput, Tap

WIDTHS = (32, 64, 128, 256, 512)  # at strides 1, 2, 4, 8, 16


class ASPPResidualSEUNet(nn.Module):
    """The accuracy model: an encoder with two residual SE blocks per level, ASPP, and the decoder of its student.

    It trains from scratch and is the natural teacher of `students.MobileNetV2ASPPResidualSEUNet`, which has the same
    ASPP and decoder blocks.

    Taps: `level1` … `level5` with 32, 64, 128, 256, 512 channels at strides 1, 2, 4, 8, 16; `low`, `mid`, `high` are
    the last three; `aspp` 512 at 32; `decoder1` … `decoder5` with 512, 256, 128, 64, 32 at 16, 8, 4, 2, 1.
    32,506,233 parameters at one channel and one class.

    Source: Hu et al., CVPR 2018, arXiv:1709.01507; Chen et al., 2017, arXiv:1706.05587; Ronneberger et al., MICCAI
    2015, arXiv:1505.04597.

    Args:
        num_classes: K; 1 for foreground and background with one sigmoid.
        in_channels: channels of an image.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H, W).
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.normalize = Normalize(in_channels)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.taps: dict[str, Tap] = {}
        channels = in_channels
        for i, width in enumerate(WIDTHS):
            self.encoder.append(nn.Sequential(ResidualSE(channels, width), ResidualSE(width, width)))
            self.taps[f"level{i + 1}"] = Tap(width, 2**i)
            channels = width
        self.taps |= {"low": self.taps["level3"], "mid": self.taps["level4"], "high": self.taps["level5"]}
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)  # rounds odd sizes up, as in ResNet
        self.aspp = ASPP(channels, channels, norm=group_norm)
        self.taps["aspp"] = Tap(channels, 32)
        for i, width in enumerate(reversed(WIDTHS), 1):
            self.decoder.append(ResidualSEUp(channels, width, width))
            self.taps[f"decoder{i}"] = Tap(width, 32 // 2**i)
            channels = width
        self.classifier = Heads(channels, num_classes, dropout=0.0)
        init_kaiming([self.encoder, self.aspp, self.decoder])

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 1."""
        maps, features = self.normalize(images), dict[str, Tensor]()
        for i, level in enumerate(self.encoder, 1):
            maps = features[f"level{i}"] = level(maps if i == 1 else self.pool(maps))
        features |= {"low": features["level3"], "mid": features["level4"], "high": features["level5"]}
        maps = features["aspp"] = self.aspp(self.pool(maps))
        for i, stage in enumerate(self.decoder, 1):
            maps = features[f"decoder{i}"] = stage(maps, features[f"level{6 - i}"])
        logits, members = self.classifier(maps)
        return SegmentationOutput(logits, features, members)
