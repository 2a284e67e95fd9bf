"""Adapters: map the student's channels to the teacher's; trained with the student, dropped after training.

The engine measures both channel counts and builds `Adapter(in_channels, out_channels, **args)`.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["MLP", "Conv1x1", "ConvNormAct", "Identity", "MaskedGenerator"]


class Identity(nn.Module):
    """The student's map, unchanged.

    Args:
        in_channels: channels of the student's map.
        out_channels: channels of the teacher's map; the same number.

    Raises:
        ValueError: the channel counts differ.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if in_channels != out_channels:
            raise ValueError(
                f"Identity: the student has {in_channels} channels, the teacher {out_channels}; use kd.adapters.Conv1x1"
            )

    def forward(self, features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
        """The same tensor."""
        return features


class Conv1x1(nn.Module):
    """A linear map of the channels, the same at every pixel: FitNet's regressor.

    Args:
        in_channels: channels of the student's map.
        out_channels: channels of the teacher's map.
        bias: add a learnt constant to each channel.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="linear")  # keeps the variance of its input

    def forward(self, features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D h w"]:
        """Map the channels."""
        result: Tensor = self.conv(features)
        return result


class ConvNormAct(nn.Module):
    """Convolution, batch normalisation, ReLU: for a teacher's map that is read after a ReLU; all values are >= 0.

    Args:
        in_channels: channels of the student's map.
        out_channels: channels of the teacher's map.
        kernel_size: odd; 1 reads one pixel, 3 its neighbours too.

    Raises:
        ValueError: `kernel_size` is not an odd number above 0.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}; it must be odd, or the map would shift by half a pixel")
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D h w"]:
        """Convolve, normalise, rectify."""
        result: Tensor = self.norm(self.conv(features)).relu()
        return result


class MLP(nn.Module):
    """Two linear maps of the channels with normalisation and ReLU between them, as in CIRKD and VID.

    Args:
        in_channels: channels of the student's map.
        out_channels: channels of the teacher's map.
        hidden_channels: between the two maps, >= 1; None is `out_channels`.

    Raises:
        ValueError: `hidden_channels` is below 1.
    """

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: int | None = None) -> None:
        super().__init__()
        hidden = _hidden(hidden_channels, out_channels)
        self.first = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.second = nn.Conv2d(hidden, out_channels, 1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")

    def forward(self, features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D h w"]:
        """Map, normalise, rectify, map."""
        result: Tensor = self.second(self.norm(self.first(features)).relu())
        return result


class MaskedGenerator(nn.Module):
    """Hide most positions of the student's map and generate the whole map from the rest: the adapter of MGD.

    A 1×1 convolution if the channel counts differ, a mask that sets random positions to 0 in all channels, and two 3×3
    convolutions with ReLU between them. In evaluation mode nothing is hidden.

    Source: Yang et al., "Masked Generative Distillation", ECCV 2022, arXiv:2205.01529.

    Args:
        in_channels: channels of the student's map.
        out_channels: channels of the teacher's map.
        hide: share of the positions set to 0, in [0, 1); the rest is not scaled up.
        hidden_channels: between the 3×3 convolutions, >= 1; None is `out_channels`, as in the paper: 75 million
            parameters at 2048 channels, 9 million with 256.

    Raises:
        ValueError: `hide` is outside [0, 1); `hidden_channels` is below 1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, hide: float = 0.75, hidden_channels: int | None = None
    ) -> None:
        super().__init__()
        if not 0 <= hide < 1:
            raise ValueError(f"hide is {hide}; it must be in [0, 1)")
        hidden = _hidden(hidden_channels, out_channels)
        self.hide = hide
        self.align = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        self.generator = nn.Sequential(
            nn.Conv2d(out_channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, out_channels, 3, padding=1),
        )

    def forward(
        self, features: Float[Tensor, "N C h w"], shown: Bool[Tensor, "N 1 h w"] | None = None
    ) -> Float[Tensor, "N D h w"]:
        """Hide positions, then generate the map.

        Args:
            features: the student's map.
            shown: True where a position stays; None draws it in training and shows all positions in evaluation.
        """
        features = self.align(features)
        if shown is None and self.training:
            shown = torch.rand_like(features[:, :1], dtype=torch.float32) >= self.hide
        if shown is not None:
            features = features * shown
        result: Tensor = self.generator(features)
        return result


def _hidden(channels: int | None, default: int) -> int:
    if channels is not None and channels < 1:
        raise ValueError(f"hidden_channels is {channels}; it must be at least 1")
    return default if channels is None else channels
