"""The layers that networks share. Shapes: (N, C, h, w) in and out unless said otherwise."""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEMBER_DROPOUT = (0.10, 0.15, 0.20)  # different for each head of an ensemble, or the heads would agree too soon


class Normalize(nn.Module):
    """Images in [0, 1] to what the first convolution expects, in float32 whatever autocast says.

    ImageNet's mean and standard deviation for three channels, their averages for one, (0.5, 0.25) for any other number.

    Args:
        in_channels: channels of an image.
        mean: another mean, one number a channel.
        std: another standard deviation, one number a channel.

    Raises:
        ValueError: as many numbers as channels are not given.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, in_channels: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        known = {1: ((0.449,), (0.226,)), 3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
        usual = known.get(in_channels, ((0.5,) * in_channels, (0.25,) * in_channels))
        for name, given, default in (("mean", mean, usual[0]), ("std", std, usual[1])):
            values = default if given is None else given
            if len(values) != in_channels:
                raise ValueError(f"{name}: {len(values)} numbers for {in_channels} channels; give one for each")
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to float32 around 0."""
        return (images.float() - self.mean) / self.std


class PooledBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm behind global pooling: uses its running statistics when it would see one value per channel.

    One value has no variance, so plain BatchNorm refuses a batch of one image there. It is a `BatchNorm2d` to every
    tool that looks for one (re-estimation, folding, SyncBatchNorm), with the same state-dict keys.
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
    """Convolution that keeps the size, normalisation, ReLU (not in place: each of the three can be tapped)."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, groups=groups, bias=bias
    )
    return nn.Sequential(conv, norm(out_channels), nn.ReLU())


def upsample_to(maps: Tensor, like: Tensor) -> Tensor:
    """Bilinear (`align_corners=False`) to the height and width of `like`, whatever they are: odd images work.

    Doubling ends a row or column too far where a stride of 2 had rounded an odd size up; this mends that too.
    """
    if not torch.compiler.is_exporting() and maps.shape[-2:] == like.shape[-2:]:
        return maps  # not in an export: the comparison would tie the file to even or to odd sizes
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


def init_kaiming(modules: Iterable[nn.Module]) -> None:
    """Kaiming (fan out, ReLU) for convolutions, ones and zeros for normalisation, in every module below."""
    for root in modules:
        for module in root.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one map seen at several dilations, and as a whole.

    Branches: 1×1, one 3×3 for each rate, and global pooling; concatenated, projected, dropped out.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, arXiv:1706.05587.

    Args:
        in_channels: channels of the encoder's map.
        out_channels: channels of each branch and of the result.
        rates: dilations of the 3×3 branches, in cells of the map.
        dropout: share dropped behind the projection, 0 … 1.
        norm: normalisation behind each convolution; BatchNorm turns into `PooledBatchNorm2d` behind the pooling.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        rates: tuple[int, ...] = (6, 12, 18),
        *,
        dropout: float = 0.5,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_norm_act(in_channels, out_channels, 1, norm=norm)]
            + [conv_norm_act(in_channels, out_channels, 3, dilation=rate, norm=norm) for rate in rates]
        )
        pooled_norm = PooledBatchNorm2d if norm is nn.BatchNorm2d else norm
        self.pooling = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), conv_norm_act(in_channels, out_channels, 1, norm=pooled_norm)
        )
        self.project = conv_norm_act(out_channels * (len(rates) + 2), out_channels, 1, norm=norm)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w)."""
        whole = self.pooling(x).expand(-1, -1, *x.shape[-2:])
        maps: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), whole], 1))
        return self.dropout(maps)  # type: ignore[no-any-return]


class PyramidPooling(nn.Module):
    """The map beside its averages over 1×1, 2×2, 3×3 and 6×6 regions, each thinned to a quarter of the channels.

    Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, arXiv:1612.01105.

    Args:
        in_channels: channels of the map; the result has twice as many.
        bins: regions along each side.
    """

    def __init__(self, in_channels: int, bins: tuple[int, ...] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(side),
                conv_norm_act(in_channels, in_channels // len(bins), 1, norm=PooledBatchNorm2d),
            )
            for side in bins
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, 2 · in_channels, h, w)."""
        return torch.cat([x, *(upsample_to(branch(x), x) for branch in self.branches)], 1)


class SqueezeExcite(nn.Module):
    """Weigh each channel by what the whole map says of it.

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507.

    Args:
        channels: of the map.
        reduction: how many times narrower the layer between is; at least one channel stays.
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
    """A 3×3 convolution of each channel by itself, then a 1×1 across channels with BatchNorm and ReLU.

    Args:
        in_channels: channels of the map.
        out_channels: channels of the result.
        depthwise_norm: BatchNorm and ReLU behind the first convolution too.
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
    """Two 3×3 convolutions with BatchNorm, squeezed and excited, beside a 1×1 shortcut.

    Args:
        in_channels: channels of the map.
        out_channels: channels of the result.
        reduction: of the squeeze-and-excitation.
    """

    def __init__(self, in_channels: int, out_channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv_norm_act(in_channels, out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            SqueezeExcite(out_channels, reduction),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w)."""
        return F.relu(self.residual(x) + self.shortcut(x))


class ResidualSEUp(nn.Module):
    """One decoder stage: twice the size by a transposed convolution, the skip weighed by its own SE, `ResidualSE`.

    Args:
        in_channels: channels of the coarse map.
        skip_channels: channels of the encoder's map.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.weigh = SqueezeExcite(skip_channels)
        self.fuse = ResidualSE(out_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Coarse map and skip to (N, out_channels, h, w) at the skip's size."""
        x = upsample_to(self.up(x), skip)
        return self.fuse(torch.cat([x, self.weigh(skip)], 1))  # type: ignore[no-any-return]


class AttentionGate(nn.Module):
    """Weigh each pixel of a skip by a gate that sees the skip and the decoder's map together.

        skip · σ(BN(ψ(relu(BN(W_gate gate) + BN(W_skip skip)))))

    Source: Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018, arXiv:1804.03999.
    Differs: gate and skip have one size already.

    Args:
        gate_channels: channels of the decoder's map.
        skip_channels: channels of the encoder's map.
        inner_channels: channels in which the two meet.
    """

    def __init__(self, gate_channels: int, skip_channels: int, inner_channels: int) -> None:
        super().__init__()
        self.from_gate = nn.Sequential(nn.Conv2d(gate_channels, inner_channels, 1), nn.BatchNorm2d(inner_channels))
        self.from_skip = nn.Sequential(nn.Conv2d(skip_channels, inner_channels, 1), nn.BatchNorm2d(inner_channels))
        self.open = nn.Sequential(nn.Conv2d(inner_channels, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        """Gate and skip of one size to the skip, weighed: (N, skip_channels, h, w)."""
        return skip * self.open(F.relu(self.from_gate(gate) + self.from_skip(skip)))  # type: ignore[no-any-return]


class LowLevelDecoder(nn.Module):
    """DeepLabV3+'s decoder: the coarse map, upsampled, beside a thin projection of a fine one, and two 3×3 behind.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", ECCV
    2018, arXiv:1802.02611.

    Args:
        in_channels: channels of the coarse map.
        low_channels: channels of the fine map.
        low_projection: channels that the fine map is thinned to, so that it cannot outweigh the coarse one.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, low_channels: int, low_projection: int, out_channels: int) -> None:
        super().__init__()
        self.project = conv_norm_act(low_channels, low_projection, 1)
        self.fuse = nn.Sequential(
            conv_norm_act(in_channels + low_projection, out_channels), conv_norm_act(out_channels, out_channels)
        )

    def forward(self, x: Tensor, low: Tensor) -> Tensor:
        """Coarse and fine map to (N, out_channels, h, w) at the fine map's size."""
        low = self.project(low)
        return self.fuse(torch.cat([upsample_to(x, low), low], 1))  # type: ignore[no-any-return]


class Heads(nn.Module):
    """The classifier, or several that share a trunk and are averaged: dropout and a 1×1 convolution each.

    Args:
        in_channels: channels of the decoder's map.
        num_classes: K.
        heads: 1, or 3 for an ensemble with dropout 0.10, 0.15 and 0.20.
        dropout: share dropped before a single head, 0 … 1.

    Raises:
        ValueError: `heads` is neither 1 nor 3.
    """

    def __init__(self, in_channels: int, num_classes: int, heads: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        if heads not in (1, len(MEMBER_DROPOUT)):
            raise ValueError(f"heads: {heads} is not possible; choose 1 or {len(MEMBER_DROPOUT)}")
        shares = (dropout,) if heads == 1 else MEMBER_DROPOUT
        self.members = nn.ModuleList(
            nn.Sequential(nn.Dropout(share), nn.Conv2d(in_channels, num_classes, 1)) for share in shares
        )

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean of the heads' logits (N, K, h, w), and with several heads each under `head<i>`."""
        each = [member(x) for member in self.members]
        if len(each) == 1:
            return each[0], {}
        return torch.stack(each).mean(0), {f"head{i}": logits for i, logits in enumerate(each, 1)}
