"""Modules that let each cell of a coarse map see a large part of the image."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kd.networks.layers import PooledBatchNorm2d, conv_norm_act, upsample_to


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: the map seen at several dilations, and as a whole.

    Branches: a 1×1 convolution, a 3×3 convolution per rate, and global pooling; concatenated, projected, dropped out.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, arXiv:1706.05587.

    Args:
        in_channels: channels of the encoder's map.
        out_channels: channels of each branch and of the result.
        rates: dilations of the 3×3 branches, in cells of the map.
        dropout: share dropped after the projection, 0 … 1.
        norm: normalisation after each convolution; after the pooling, BatchNorm becomes `PooledBatchNorm2d`.
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
    """The map concatenated with its averages over 1×1, 2×2, 3×3 and 6×6 regions, a quarter of the channels each.

    Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, arXiv:1612.01105.

    Args:
        in_channels: channels of the map; the result has twice as many.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(side),
                conv_norm_act(in_channels, in_channels // 4, 1, norm=PooledBatchNorm2d),
            )
            for side in (1, 2, 3, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, 2 · in_channels, h, w)."""
        return torch.cat([x, *(upsample_to(branch(x), x) for branch in self.branches)], 1)
