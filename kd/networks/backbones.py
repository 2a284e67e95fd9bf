"""torchvision's encoders for any number of image channels and any output stride, with the output of every stage."""

from collections.abc import Mapping

import torchvision
from torch import Tensor, nn

from kd.types import Tap

EXPANSION = {"resnet18": 1, "resnet34": 1, "resnet50": 4, "resnet101": 4}  # of the channels in a stage's last layer


class Stages(nn.Module):
    """Modules that run in sequence; the outputs of some of them are the result.

    The children keep their names in torchvision's segmentation networks, so that its weights load.

    Args:
        modules: name -> module, in running order.
        outputs: tap -> name of the module whose output it is; one output may have two names.
        taps: tap -> channels and stride of that output.
        imagenet: torchvision's name of the weights that `weights: imagenet` loads.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], outputs: Mapping[str, str], taps: Mapping[str, Tap], imagenet: str
    ) -> None:
        super().__init__()
        assert outputs.keys() == taps.keys()
        assert set(outputs.values()) <= modules.keys()
        self.outputs, self.taps, self.imagenet = dict(outputs), dict(taps), imagenet
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Normalised images (N, C, H, W) to tap -> map."""
        wanted, maps = set(self.outputs.values()), {}
        for name, module in self.named_children():
            x = module(x)
            if name in wanted:
                maps[name] = x
        return {tap: maps[name] for tap, name in self.outputs.items()}


def resnet(name: str, in_channels: int, output_stride: int = 32) -> Stages:
    """ResNet-18, 34, 50 or 101 without its classifier.

    Taps: `stem` (stride 2), `layer1` … `layer4`; `low`, `mid`, `high` are `layer1`, `layer2`, `layer3`.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.

    Args:
        name: resnet18, resnet34, resnet50 or resnet101.
        in_channels: channels of an image.
        output_stride: 32, or 16 or 8, where the last stages dilate instead of striding.

    Raises:
        ValueError: `name` or `output_stride` is not one of these.
    """
    if name not in EXPANSION:
        raise ValueError(f"backbone: must be one of {', '.join(EXPANSION)}, got '{name}'")
    network = getattr(torchvision.models, name)(weights=None)
    if in_channels != 3:
        network.conv1 = _with_channels(network.conv1, in_channels)
    modules = {child: module for child, module in network.named_children() if child not in ("avgpool", "fc")}
    stages = {"layer2": 8, "layer3": 16, "layer4": 32}
    _limit_stride([(modules[stage], stride) for stage, stride in stages.items()], output_stride)
    outputs = {"stem": "relu", "layer1": "layer1", "layer2": "layer2", "layer3": "layer3", "layer4": "layer4"}
    outputs |= {"low": "layer1", "mid": "layer2", "high": "layer3"}
    of_stage = {"relu": Tap(64, 2), "layer1": Tap(64 * EXPANSION[name], 4)}
    for i, (stage, stride) in enumerate(stages.items(), 1):
        of_stage[stage] = Tap(64 * 2**i * EXPANSION[name], min(stride, output_stride))
    taps = {tap: of_stage[stage] for tap, stage in outputs.items()}
    return Stages(modules, outputs, taps, f"{name.replace('resnet', 'ResNet')}_Weights.IMAGENET1K_V1")


def mobilenet_v2(in_channels: int, output_stride: int = 32, *, expanded: bool = False) -> Stages:
    """MobileNetV2's features up to the 320-channel stage.

    Taps: `stem` (32 channels, stride 2), `block1` 16 at 2, `low` 24 at 4, `mid` 32 at 8, `high` 96 at 16, `encoder`.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, arXiv:1801.04381.

    Args:
        in_channels: channels of an image.
        output_stride: 32, or 16 or 8, where the last stages dilate instead of striding.
        expanded: keep the last 1×1 convolution, to 1280 channels.

    Raises:
        ValueError: `output_stride` is not one of these.
    """
    features = torchvision.models.mobilenet_v2(weights=None).features
    if in_channels != 3:
        features[0][0] = _with_channels(features[0][0], in_channels)
    _limit_stride([(features[7:14], 16), (features[14:18], 32)], output_stride)
    last = 18 if expanded else 17
    outputs = {"stem": 0, "block1": 1, "low": 3, "mid": 6, "high": 13, "encoder": last}
    strides = {"stem": 2, "block1": 2, "low": 4, "mid": 8, "high": min(16, output_stride), "encoder": output_stride}
    return _numbered(features[: last + 1], outputs, strides, "MobileNet_V2_Weights.IMAGENET1K_V2")


def mobilenet_v3_small(in_channels: int, *, width: float = 1.0, activation: str = "hardswish") -> Stages:
    """MobileNetV3-Small's features, dilated to output stride 16.

    BatchNorm momentum is 0.1: with torchvision's 0.01 the running statistics lag so far behind in a short training
    from scratch that validation collapses.

    Taps at width 1: `low` 16 channels at stride 4, `mid` 24 at 8, `high` 48 at 16, `encoder` 576 at 16.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244.

    Args:
        in_channels: channels of an image.
        width: factor of the channels of all layers, rounded to multiples of 8.
        activation: hardswish, or relu6, which more integer hardware supports.

    Raises:
        ValueError: `width` is not above 0, or `activation` is not one of these.
    """
    if width <= 0:
        raise ValueError(f"width: must be above 0, got {width}; 1.0 is the published network")
    if activation not in ("hardswish", "relu6"):
        raise ValueError(f"activation: must be hardswish or relu6, got '{activation}'")
    features = torchvision.models.mobilenet_v3_small(
        weights=None, dilated=True, width_mult=width, norm_layer=_batch_norm_v3
    ).features
    if activation == "relu6":
        for parent in list(features.modules()):
            for child, module in list(parent.named_children()):
                if isinstance(module, nn.Hardswish):
                    setattr(parent, child, nn.ReLU6(inplace=True))
    if in_channels != 3:
        features[0][0] = _with_channels(features[0][0], in_channels)
    outputs = {"low": 1, "mid": 3, "high": 8, "encoder": 12}
    strides = {"low": 4, "mid": 8, "high": 16, "encoder": 16}
    return _numbered(features, outputs, strides, "MobileNet_V3_Small_Weights.IMAGENET1K_V1")


def mobilenet_v3_large(in_channels: int) -> Stages:
    """MobileNetV3-Large's features, dilated to output stride 16; BatchNorm momentum 0.1, as in the small network.

    Taps: `low` 24 channels at stride 4, `mid` 40 at 8, `high` 112 at 16, `encoder` 960 at 16; torchvision's LR-ASPP
    reads `block4`, 40 at 8.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244.

    Args:
        in_channels: channels of an image.
    """
    features = torchvision.models.mobilenet_v3_large(weights=None, dilated=True, norm_layer=_batch_norm_v3).features
    if in_channels != 3:
        features[0][0] = _with_channels(features[0][0], in_channels)
    outputs = {"low": 3, "block4": 4, "mid": 6, "high": 12, "encoder": 16}
    strides = {"low": 4, "block4": 8, "mid": 8, "high": 16, "encoder": 16}
    return _numbered(features, outputs, strides, "MobileNet_V3_Large_Weights.IMAGENET1K_V2")


def _batch_norm_v3(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=0.001, momentum=0.1)


def _numbered(features: nn.Sequential, outputs: Mapping[str, int], strides: Mapping[str, int], imagenet: str) -> Stages:
    """The `features` of a mobile network as stages named by their index."""
    taps = {tap: Tap(int(features[i].out_channels), strides[tap]) for tap, i in outputs.items()}  # type: ignore[arg-type]
    return Stages(dict(features.named_children()), {tap: str(i) for tap, i in outputs.items()}, taps, imagenet)


def _with_channels(conv: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """A new convolution of the same kind for another number of image channels."""
    assert conv.bias is None
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    fresh = nn.Conv2d(in_channels, conv.out_channels, kernel, stride, int(padding), bias=False)
    nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
    return fresh


def _limit_stride(stages: list[tuple[nn.Module, int]], output_stride: int) -> None:
    """Let the stages beyond the output stride dilate instead of striding.

    A convolution that had stride 2 reads a map as fine as before, so it keeps the dilation of the stage before; all
    convolutions after it read a finer map and double theirs. The values at the cells of the strided network stay the
    same. torchvision offers this for bottleneck blocks only; this works for basic blocks and inverted residuals too.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride: must be 8, 16 or 32, got {output_stride}")
    dilation = 1
    for stage, stride in stages:
        before, dilation = dilation, max(1, stride // output_stride)
        for conv in stage.modules():
            if not isinstance(conv, nn.Conv2d):
                continue
            spread = dilation
            if conv.stride == (2, 2):
                spread = before
                if stride > output_stride:
                    conv.stride = (1, 1)
            if conv.kernel_size != (1, 1):
                conv.dilation = (spread, spread)
                conv.padding = tuple(spread * (size // 2) for size in conv.kernel_size)
