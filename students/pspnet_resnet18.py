"""PSPNet on ResNet-18."""

from torch import nn

from kd.networks.context import PyramidPooling
from kd.networks.layers import conv_norm_act, init_kaiming
from kd.networks.resnet_with_head import ResNetWithHead


def PSPNetResNet18(  # noqa: N802  # recipes call every network as they call a class
    num_classes: int, in_channels: int = 3, *, aux: bool = False
) -> ResNetWithHead:
    """Pyramid pooling on ResNet-18 at output stride 8, a student of the published tables.

    Taps: `layer1` (64 channels, stride 4), `layer2` 128, `layer3` 256, `layer4` 512 (all at 8); `low`, `mid`, `high`
    are the first three; `pyramid` 1024 at 8.

    Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, arXiv:1612.01105. 12,622,293 parameters at 21
    classes.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        aux: add torchvision's auxiliary head on `layer3`, as `aux.aux`.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/8, W/8).
    """
    return ResNetWithHead(num_classes, in_channels, "resnet18", _head, ("pyramid", 1024), aux)


def _head(in_channels: int, num_classes: int) -> nn.Sequential:
    inner = in_channels // 4
    head = nn.Sequential(
        PyramidPooling(in_channels),
        conv_norm_act(2 * in_channels, inner),
        nn.Dropout(0.1),
        nn.Conv2d(inner, num_classes, 1),
    )
    init_kaiming(head[:2])
    return head
