"""DeepLabV3 on a dilated ResNet."""

from kd.networks.resnet_with_head import ResNetWithHead, deeplabv3_head


def DeepLabV3ResNet50(  # noqa: N802  # recipes call every network as they call a class
    num_classes: int, in_channels: int = 3, *, backbone: str = "resnet50", aux: bool = False
) -> ResNetWithHead:
    """Torchvision's DeepLabV3: a dilated ResNet and atrous spatial pyramid pooling (rates 12, 24, 36).

    Taps: `layer1` (stride 4), `layer2`, `layer3`, `layer4` (8); `low`, `mid`, `high` are the first three; `aspp`.
    State-dict keys are torchvision's, so `weights: DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1` loads. The
    pooling branch has a `PooledBatchNorm2d`, so that one image trains.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, arXiv:1706.05587, in
    torchvision's form. 39,638,869 parameters at 21 classes, 42,004,074 with the auxiliary head.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        backbone: resnet18, resnet34, resnet50 or resnet101.
        aux: add torchvision's auxiliary head on `layer3`, as `aux.aux`.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/8, W/8).

    Raises:
        ValueError: `backbone` is not one of these.
    """
    return ResNetWithHead(num_classes, in_channels, backbone, deeplabv3_head, ("aspp", 256), aux)


def DeepLabV3ResNet101(  # noqa: N802  # recipes call every network as they call a class
    num_classes: int, in_channels: int = 3, *, aux: bool = False
) -> ResNetWithHead:
    """`DeepLabV3ResNet50` on ResNet-101, the teacher of the published tables.

    State-dict keys are torchvision's, so `weights: DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1` loads.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, arXiv:1706.05587, in
    torchvision's form. 58,630,997 parameters at 21 classes, 60,996,202 with the auxiliary head.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        aux: add torchvision's auxiliary head on `layer3`, as `aux.aux`.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/8, W/8).
    """
    return DeepLabV3ResNet50(num_classes, in_channels, backbone="resnet101", aux=aux)
