"""FCN on a dilated ResNet."""

from torchvision.models.segmentation.fcn import FCNHead

from kd.networks.resnet_with_head import ResNetWithHead


def FCNResNet50(  # noqa: N802  # recipes call every network as they call a class
    num_classes: int, in_channels: int = 3, *, backbone: str = "resnet50", aux: bool = False
) -> ResNetWithHead:
    """Torchvision's fully convolutional network: a dilated ResNet and one 3×3 convolution.

    Taps: `layer1` (stride 4), `layer2`, `layer3`, `layer4` (8); `low`, `mid`, `high` are the first three.
    State-dict keys are torchvision's, so `weights: FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1` loads.

    Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, arXiv:1411.4038, in
    torchvision's form. 32,957,013 parameters at 21 classes, 35,322,218 with the auxiliary head.

    Args:
        num_classes: K.
        in_channels: channels of an image.
        backbone: resnet18, resnet34, resnet50 or resnet101.
        aux: add torchvision's auxiliary head on `layer3`, as `aux.aux`.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, H/8, W/8).

    Raises:
        ValueError: `backbone` is not one of these.
    """
    return ResNetWithHead(num_classes, in_channels, backbone, FCNHead, None, aux)
