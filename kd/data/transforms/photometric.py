"""Transforms that change the colours of an image and leave its mask as it is, built on torchvision's v2 functions.

A photometric transform has a method `draw_change()`, which draws a change and returns the function that makes it. Where
a teacher sees the image at a size of its own, `kd.data.splits.split.Split` makes the same change to both images.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from kd.data.transforms.draws import check_probability, check_range, happens, uniform
from kd.types import size_of

Pair = tuple[tv_tensors.Image, tv_tensors.Mask]
Change = Callable[[Tensor, float], Tensor]  # (uint8 (C, H, W), its pixels along one of the training image) -> the same


@runtime_checkable
class Photometric(Protocol):
    """A transform that draws what it does before it sees an image, and moves nothing."""

    def draw_change(self) -> Change:
        """Draw a change; random numbers come from torch's CPU generator.

        Returns:
            A function of an image and the number of its pixels along a pixel of the training image: 1 for that image,
            1.4 for one that shows the same with 1.4 times as many rows and columns. A length in pixels is multiplied
            by it.
        """
        ...


class ColorJitter:
    """Change brightness, contrast, saturation and hue of the image, in random order; the mask is unchanged.

    Args:
        brightness: the factor is drawn from 1 ± `brightness`, >= 0; likewise for contrast and saturation.
        contrast: as brightness.
        saturation: as brightness; without effect on one channel.
        hue: the shift is drawn from ± `hue`, as a share of the colour circle, 0 … 0.5; without effect on one channel.
        p: probability, 0 … 1.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self, brightness: float = 0.3, contrast: float = 0.3, saturation: float = 0.3, hue: float = 0.05, p: float = 1.0
    ) -> None:
        for name, value, largest in (
            ("brightness", brightness, float("inf")),
            ("contrast", contrast, float("inf")),
            ("saturation", saturation, float("inf")),
            ("hue", hue, 0.5),
        ):
            if not 0 <= value <= largest:
                raise ValueError(f"ColorJitter: {name} must be 0 … {largest:g}, got {value}")
        check_probability("ColorJitter", p)
        self.jitter, self.p = v2.ColorJitter(brightness, contrast, saturation, hue), p

    def draw_change(self) -> Change:
        """Draw the factors and their order."""
        if not happens(self.p):
            return _unchanged
        drawn = self.jitter.make_params([])  # they do not depend on the image
        return lambda image, scale: self.jitter.transform(image, drawn)

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Change the image only."""
        return _changed(self, image), mask


class RandomBlur:
    """Blur the image with a Gaussian; the mask is unchanged.

    Args:
        p: probability, 0 … 1.
        low: smallest standard deviation in pixels, > 0.
        high: largest, >= `low`.

    Raises:
        ValueError: `p` is out of range; not 0 < low <= high.
    """

    def __init__(self, p: float = 0.5, low: float = 0.1, high: float = 2.0) -> None:
        check_probability("RandomBlur", p)
        check_range("RandomBlur", low, high)
        self.p, self.low, self.high = p, low, high

    def draw_change(self) -> Change:
        """Draw the standard deviation."""
        return partial(_blurred, uniform(self.low, self.high)) if happens(self.p) else _unchanged

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Blur the image only."""
        return _changed(self, image), mask


def _blurred(deviation: float, image: Tensor, scale: float) -> Tensor:
    deviation *= scale
    radius = min(
        max(1, round(3 * deviation)), min(size_of(image)) - 1
    )  # reflection padding is at most the image itself
    blurred: Tensor = TF.gaussian_blur(image, [2 * radius + 1] * 2, [deviation, deviation])
    return blurred


def _unchanged(image: Tensor, scale: float) -> Tensor:
    return image


def _changed(transform: Photometric, image: tv_tensors.Image) -> tv_tensors.Image:
    return tv_tensors.Image(transform.draw_change()(image.as_subclass(Tensor), 1.0))
