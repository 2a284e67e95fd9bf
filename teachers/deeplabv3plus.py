"""DeepLabV3+: ASPP and a decoder with one skip."""

from torch import Tensor, nn

from kd.networks.backbones import mobilenet_v2, resnet
from kd.networks.context import ASPP
from kd.networks.decoders import Heads, LowLevelDecoder
from kd.networks.layers import init_kaiming
from kd.networks.normalize import Normalize
from kd.types import SegmentationOutput, Tap


class DeepLabV3Plus(nn.Module):
    """An encoder at output stride 16, ASPP (rates 6, 12, 18), and a decoder with a skip at stride 4.

    Taps: `low`, `mid`, `high` (strides 4, 8, 16), `encoder` (its last map), `aspp`, `decoder` (stride 4); on a ResNet
    also `layer1` … `layer4`.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", ECCV
    2018, arXiv:1802.02611. Differs: ASPP and decoder have full, not separable, convolutions. 40,348,583
    parameters at 7 classes on ResNet-50, 40,352,181 with three heads.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        backbone: resnet18, resnet34, resnet50, resnet101 or mobilenet_v2.
        output_stride: of the encoder: 16, 8 (finer and slower) or 32.
        heads: 1, or 3 heads whose mean is the result; `aux` holds each of them.
        decoder: channels of ASPP and decoder, 256 in the paper.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/4, W/4).

    Raises:
        ValueError: `backbone`, `output_stride` or `heads` is not one of these.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        backbone: str = "resnet50",
        output_stride: int = 16,
        heads: int = 1,
        decoder: int = 256,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.normalize = Normalize(in_channels)
        if backbone == "mobilenet_v2":
            self.backbone = mobilenet_v2(in_channels, output_stride)
        else:
            self.backbone = resnet(backbone, in_channels, output_stride)
        self.last = "encoder" if "encoder" in self.backbone.taps else "layer4"
        stages = self.backbone.taps
        self.aspp = ASPP(stages[self.last].channels, decoder)
        self.decoder = LowLevelDecoder(decoder, stages["low"].channels, 48, decoder)
        self.classifier = Heads(decoder, num_classes, heads)
        init_kaiming([self.aspp, self.decoder])
        self.taps: dict[str, Tap] = stages | {
            "encoder": stages[self.last],
            "aspp": Tap(decoder, output_stride),
            "decoder": Tap(decoder, 4),
        }

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits at stride 4."""
        features = self.backbone(self.normalize(images))
        features["encoder"] = features[self.last]
        features["aspp"] = self.aspp(features["encoder"])
        features["decoder"] = self.decoder(features["aspp"], features["low"])
        logits, members = self.classifier(features["decoder"])
        return SegmentationOutput(logits, features, members)


def DeepLabV3PlusResNet50(  # noqa: N802  # recipes call every network as they call a class
    num_classes: int, in_channels: int = 3, *, output_stride: int = 16, heads: int = 1
) -> DeepLabV3Plus:
    """`DeepLabV3Plus` on ResNet-50: 40,348,583 parameters at 7 classes, 40,352,181 with three heads.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", ECCV
    2018, arXiv:1802.02611. Differs: ASPP and decoder have full, not separable, convolutions.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        output_stride: of the encoder: 16, 8 (finer and slower) or 32.
        heads: 1, or 3 heads whose mean is the result; `aux` holds each of them.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/4, W/4).

    Raises:
        ValueError: `output_stride` or `heads` is not one of these.
    """
    return DeepLabV3Plus(num_classes, in_channels, output_stride=output_stride, heads=heads)
