"""The layers and blocks that networks share. Shapes are (N, C, h, w) in and out unless stated otherwise."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PooledBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm after global pooling: uses its running statistics where it would see one value per channel.

    One value has no variance, so plain BatchNorm refuses a batch of one image there. Tools that look for a
    `BatchNorm2d` (re-estimation, folding, SyncBatchNorm) find it, and its state-dict keys are the same.
    """

    def forward(self, input: Tensor) -> Tensor:  # the argument's name is BatchNorm2d's
        """(N, C, h, w) to the same shape."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with the usual 32 groups."""
    return nn.GroupNorm(32, channels)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    """A convolution that keeps the size, normalisation and ReLU; not in place, so that each of them can be tapped."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, groups=groups, bias=bias
    )
    return nn.Sequential(conv, norm(out_channels), nn.ReLU())


def upsample_to(maps: Tensor, reference: Tensor) -> Tensor:
    """Resize bilinearly (`align_corners=False`) to the height and width of `reference`, so that odd images work.

    A stride of 2 rounds odd sizes up, so doubling ends one row or column too far; this corrects that too.
    """
    if not torch.compiler.is_exporting() and maps.shape[-2:] == reference.shape[-2:]:
        return maps  # not in an export, where the comparison would restrict the file to even or to odd sizes
    return F.interpolate(maps, size=reference.shape[-2:], mode="bilinear", align_corners=False)


def init_kaiming(modules: Iterable[nn.Module]) -> None:
    """Initialise convolutions by Kaiming (fan out, ReLU), and normalisation layers by ones and zeros, at any depth."""
    for root in modules:
        for module in root.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)


class SqueezeExcite(nn.Module):
    """Weigh each channel by a factor computed from the averages of all channels.

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507.

    Args:
        channels: of the map.
        reduction: by how much the hidden layer is narrower; it has one channel at least.
        bias: whether its two layers have biases.
    """

    def __init__(self, channels: int, reduction: int = 16, *, bias: bool = True) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1, bias=bias),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) to the same shape."""
        return x * self.weigh(x)  # type: ignore[no-any-return]


class SeparableConv(nn.Module):
    """A depthwise 3×3 convolution, then a 1×1 convolution with BatchNorm and ReLU.

    Args:
        in_channels: channels of the map.
        out_channels: channels of the result.
        depthwise_norm: add BatchNorm and ReLU after the depthwise convolution too.
    """

    def __init__(self, in_channels: int, out_channels: int, *, depthwise_norm: bool) -> None:
        super().__init__()
        if depthwise_norm:
            self.depthwise: nn.Module = conv_norm_act(in_channels, in_channels, groups=in_channels)
        else:
            self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = conv_norm_act(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w)."""
        return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]


class ResidualSE(nn.Module):
    """Two 3×3 convolutions with BatchNorm and squeeze-and-excitation, added to a 1×1 shortcut.

    Args:
        in_channels: channels of the map.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv_norm_act(in_channels, out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            SqueezeExcite(out_channels),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w)."""
        return F.relu(self.residual(x) + self.shortcut(x))
