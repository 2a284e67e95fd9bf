"""DeepLabV3 on ResNet-18."""

from kd.networks.resnet_with_head import ResNetWithHead, deeplabv3_head


def DeepLabV3ResNet18(  # noqa: N802  # recipes call every network as they call a class
    num_classes: int, in_channels: int = 3, *, aux: bool = False
) -> ResNetWithHead:
    """Torchvision's DeepLabV3 head (ASPP rates 12, 24, 36) on ResNet-18 at output stride 8.

    A student of the published tables. Taps: `layer1` (64 channels, stride 4), `layer2` 128, `layer3` 256, `layer4`
    512 (all at 8); `low`, `mid`, `high` are the first three; `aspp` 256 at 8.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, arXiv:1706.05587.
    15,904,085 parameters at 21 classes.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        aux: add torchvision's auxiliary head on `layer3`, as `aux.aux`.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/8, W/8).
    """
    return ResNetWithHead(num_classes, in_channels, "resnet18", deeplabv3_head, ("aspp", 256), aux)
