"""How a network takes its images: order of channels, scale, mean and standard deviation."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Preprocess(NamedTuple):
    """The form in which the first layer of a network takes an image, in the words of a recipe's `preprocess`.

    Attributes:
        order: of the channels, "rgb" or "bgr".
        scale: the value of white, 1 or 255.
        mean: per channel, subtracted after order and scale.
        std: per channel, divided by after the mean.
    """

    order: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, images: Tensor) -> Tensor:
        """Bring images (N, C, H, W), RGB in [0, 1], into this form."""
        images = images.flip(1) if self.order == "bgr" else images
        return (images * self.scale - _per_channel(self.mean, images)) / _per_channel(self.std, images)

    def undo(self, images: Tensor) -> Tensor:
        """Bring images in this form back to RGB in [0, 1]."""
        images = (images * _per_channel(self.std, images) + _per_channel(self.mean, images)) / self.scale
        return images.flip(1) if self.order == "bgr" else images

    def __str__(self) -> str:
        mean, std = (f"[{', '.join(f'{value:.4g}' for value in values)}]" for values in (self.mean, self.std))
        return f"preprocess: {{order: {self.order}, scale: {self.scale:g}, mean: {mean}, std: {std}}}"


class Normalize(nn.Module):
    """Bring images in [0, 1] into the form that the next layer takes, in float32 under autocast too.

    The default is ImageNet's mean and standard deviation for three channels, (0.449, 0.226) for one, and (0.5, 0.25)
    for any other number.

    Args:
        in_channels: C, the channels of the images.
        mean: C numbers that replace the default.
        std: C numbers that replace the default.
        order: of the channels, "rgb" or "bgr".
        scale: the value of white.
        from_recipe: whether a recipe can state these values (`preprocess` of `teachers.Wrapped`).

    Raises:
        ValueError: `mean` or `std` does not have C numbers.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_channels: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        *,
        order: str = "rgb",
        scale: float = 1.0,
        from_recipe: bool = False,
    ) -> None:
        super().__init__()
        self.order, self.scale, self.from_recipe = order, float(scale), from_recipe
        usual = {1: ((0.449,), (0.226,)), 3: (IMAGENET_MEAN, IMAGENET_STD)}
        default_mean, default_std = usual.get(in_channels, ((0.5,) * in_channels, (0.25,) * in_channels))
        for name, given, default in (("mean", mean, default_mean), ("std", std, default_std)):
            values = default if given is None else given
            if len(values) != in_channels:
                raise ValueError(f"{name}: {len(values)} numbers for {in_channels} channels; give one per channel")
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1))

    @property
    def preprocess(self) -> Preprocess:
        """The form that this layer brings images into."""
        mean, std = (tuple(buffer.flatten().tolist()) for buffer in (self.mean, self.std))
        return Preprocess(self.order, self.scale, mean, std)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to float32 in this layer's form."""
        images = images.float() if self.scale == 1 else images.float() * self.scale
        images = images.flip(1) if self.order == "bgr" else images
        return (images - self.mean) / self.std


def _per_channel(values: tuple[float, ...], images: Tensor) -> Tensor:
    return torch.tensor(values, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
