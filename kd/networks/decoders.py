"""Decoder stages that combine a coarse map with a finer one, and the heads that classify the result."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.networks.layers import ResidualSE, SqueezeExcite, conv_norm_act, upsample_to

MEMBER_DROPOUT = (0.10, 0.15, 0.20)  # differs between the heads of an ensemble, so that they do not agree too early


class ResidualSEUp(nn.Module):
    """A decoder stage: a transposed convolution doubles the size, an SE weighs the skip, `ResidualSE` fuses them.

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
    """Weigh each pixel of a skip by a factor computed from the skip and the decoder's map.

        skip · σ(BN(ψ(relu(BN(W_gate gate) + BN(W_skip skip)))))

    Source: Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018, arXiv:1804.03999.
    Differs: gate and skip already have the same size.

    Args:
        gate_channels: channels of the decoder's map.
        skip_channels: channels of the encoder's map.
        inner_channels: channels to which both are projected.
    """

    def __init__(self, gate_channels: int, skip_channels: int, inner_channels: int) -> None:
        super().__init__()
        self.from_gate = nn.Sequential(nn.Conv2d(gate_channels, inner_channels, 1), nn.BatchNorm2d(inner_channels))
        self.from_skip = nn.Sequential(nn.Conv2d(skip_channels, inner_channels, 1), nn.BatchNorm2d(inner_channels))
        self.open = nn.Sequential(nn.Conv2d(inner_channels, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        """Gate and skip of one size to the weighed skip (N, skip_channels, h, w)."""
        return skip * self.open(F.relu(self.from_gate(gate) + self.from_skip(skip)))  # type: ignore[no-any-return]


class LowLevelDecoder(nn.Module):
    """DeepLabV3+'s decoder: two 3×3 convolutions on the upsampled coarse map and a narrow projection of a fine one.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", ECCV
    2018, arXiv:1802.02611.

    Args:
        in_channels: channels of the coarse map.
        low_channels: channels of the fine map.
        low_projection: channels to which the fine map is projected, few so that it does not outweigh the coarse one.
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
    """A classifier of dropout and a 1×1 convolution, or three of them whose mean is the result.

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
            raise ValueError(f"heads: must be 1 or {len(MEMBER_DROPOUT)}, got {heads}")
        shares = (dropout,) if heads == 1 else MEMBER_DROPOUT
        self.members = nn.ModuleList(
            nn.Sequential(nn.Dropout(share), nn.Conv2d(in_channels, num_classes, 1)) for share in shares
        )

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean of the heads' logits (N, K, h, w); with several heads, also the logits of each as `head<i>`."""
        logits = [member(x) for member in self.members]
        if len(logits) == 1:
            return logits[0], {}
        return torch.stack(logits).mean(0), {f"head{i}": head for i, head in enumerate(logits, 1)}
