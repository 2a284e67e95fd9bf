"""Joint transforms of an image and its mask, built on torchvision's v2 functions.

A transform is any callable that takes `(tv_tensors.Image, tv_tensors.Mask)` and returns the same. Where a geometric
transform uncovers pixels, the image is 0 and the mask is IGNORE; v2's default mask value, 0, would be the first class.
Transforms draw from torch's CPU generator only: `kd.data.split.Split` seeds it for each sample.
"""

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as TF

from kd.data.dataset import resize_image
from kd.types import IGNORE, resize_labels

Pair = tuple[tv_tensors.Image, tv_tensors.Mask]


class RandomScale:
    """Resize by a uniformly drawn factor; the crop that follows cuts or pads to the training size.

    Args:
        low: smallest factor, > 0.
        high: largest factor, >= `low`.

    Raises:
        ValueError: not 0 < low <= high.
    """

    def __init__(self, low: float = 0.5, high: float = 2.0) -> None:
        _check_range("RandomScale", low, high)
        self.low, self.high = low, high

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Resize the image bilinearly with antialiasing and the mask by nearest-exact."""
        factor = _uniform(self.low, self.high)
        # at least 2: torch's antialiased resize of 8-bit images is wrong, or fails, at width 1
        size = (max(2, round(mask.shape[0] * factor)), max(2, round(mask.shape[1] * factor)))
        labels = resize_labels(mask.as_subclass(Tensor)[None], size)[0]
        return tv_tensors.Image(resize_image(image.as_subclass(Tensor), size)), tv_tensors.Mask(labels)


class RandomFlip:
    """Flip horizontally.

    Args:
        p: probability, 0 … 1.

    Raises:
        ValueError: `p` is out of range.
    """

    def __init__(self, p: float = 0.5) -> None:
        _check_probability("RandomFlip", p)
        self.p = p

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Flip both or neither."""
        if _uniform(0, 1) >= self.p:
            return image, mask
        return TF.horizontal_flip(image), TF.horizontal_flip(mask)


class RandomRotate:
    """Rotate around the centre by a uniformly drawn angle; the size is unchanged, and the corners become padding.

    Args:
        degrees: largest angle in either direction, 0 … 180.

    Raises:
        ValueError: `degrees` is out of range.
    """

    def __init__(self, degrees: float = 10.0) -> None:
        if not 0 <= degrees <= 180:
            raise ValueError(f"RandomRotate: degrees must be 0 … 180, got {degrees}")
        self.degrees = degrees

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Rotate the image bilinearly and the mask by nearest."""
        angle = _uniform(-self.degrees, self.degrees)
        return (
            TF.rotate(image, angle, interpolation=InterpolationMode.BILINEAR, fill=0),
            TF.rotate(mask, angle, interpolation=InterpolationMode.NEAREST, fill=IGNORE),
        )


class ColorJitter:
    """Change brightness, contrast, saturation and hue of the image, in random order; the mask is unchanged.

    Args:
        brightness: the factor is drawn from 1 ± `brightness`, >= 0; likewise for contrast and saturation.
        contrast: as brightness.
        saturation: as brightness; without effect on one channel.
        hue: the shift is drawn from ± `hue`, as a share of the colour circle, 0 … 0.5; without effect on one channel.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self, brightness: float = 0.3, contrast: float = 0.3, saturation: float = 0.3, hue: float = 0.05
    ) -> None:
        for name, value, largest in (
            ("brightness", brightness, float("inf")),
            ("contrast", contrast, float("inf")),
            ("saturation", saturation, float("inf")),
            ("hue", hue, 0.5),
        ):
            if not 0 <= value <= largest:
                raise ValueError(f"ColorJitter: {name} must be 0 … {largest:g}, got {value}")
        self.jitter = v2.ColorJitter(brightness, contrast, saturation, hue)

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Change the image only."""
        return self.jitter(image), mask


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
        _check_probability("RandomBlur", p)
        _check_range("RandomBlur", low, high)
        self.p, self.low, self.high = p, low, high

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Blur the image only."""
        if _uniform(0, 1) >= self.p:
            return image, mask
        sigma = _uniform(self.low, self.high)
        radius = min(max(1, round(3 * sigma)), min(mask.shape) - 1)  # reflection padding is at most the image itself
        return TF.gaussian_blur(image, [2 * radius + 1] * 2, [sigma, sigma]), mask


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _check_probability(name: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p must be 0 … 1, got {p}")


def _check_range(name: str, low: float, high: float) -> None:
    if not 0 < low <= high:
        raise ValueError(f"{name}: low and high must satisfy 0 < low <= high, got {low} and {high}")
