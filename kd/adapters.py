"""Adapters: the student's map with the teacher's channel count, learnt with the student and dropped after training.

The engine measures both channel counts and builds `Adapter(in_channels, out_channels, **args)`.
"""

from torch import Tensor, nn

__all__ = ["Conv1x1", "ConvNormAct", "Identity"]


class Identity(nn.Module):
    """The student's map as it is.

    Args:
        in_channels: channels of the student's map.
        out_channels: channels of the teacher's map; the same number.

    Shape: (N, C, h, w) to the same.

    Raises:
        ValueError: the channel counts differ.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if in_channels != out_channels:
            raise ValueError(
                f"Identity: the student has {in_channels} channels, the teacher {out_channels}; use kd.adapters.Conv1x1"
            )

    def forward(self, features: Tensor) -> Tensor:
        """The same tensor."""
        return features


class Conv1x1(nn.Module):
    """A linear map of the channels, alike at every pixel: FitNet's regressor.

    Args:
        in_channels: channels of the student's map.
        out_channels: channels of the teacher's map.
        bias: add a learnt constant to each channel.

    Shape: (N, in_channels, h, w) to (N, out_channels, h, w).
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="linear")  # keeps the variance of what it maps

    def forward(self, features: Tensor) -> Tensor:
        """Map the channels."""
        result: Tensor = self.conv(features)
        return result


class ConvNormAct(nn.Module):
    """Convolution, batch normalisation, ReLU: for a teacher's map that is read behind a ReLU.

    Args:
        in_channels: channels of the student's map.
        out_channels: channels of the teacher's map.
        kernel_size: odd; 1 looks at one pixel, 3 at its neighbours too.

    Shape: (N, in_channels, h, w) to (N, out_channels, h, w), all values >= 0.

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

    def forward(self, features: Tensor) -> Tensor:
        """Convolve, normalise, rectify."""
        result: Tensor = self.norm(self.conv(features)).relu()
        return result
