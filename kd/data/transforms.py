"""Transforms of an image and its mask together, on torchvision's v2 functions.

Each takes `(tv_tensors.Image, tv_tensors.Mask)` and returns the same. What a geometric one uncovers is 0 in the image
and IGNORE in the mask: v2's own default, 0, would be the first class. Any callable of this kind is a transform; draw
from torch's generator only, which `kd.data.Split` seeds for each sample.
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
    """Resize by a factor drawn uniformly; the crop that follows cuts or pads to the training size.

    Args:
        low: smallest factor, > 0.
        high: largest factor, >= `low`.

    Raises:
        ValueError: not 0 < low <= high.
    """

    def __init__(self, low: float = 0.5, high: float = 2.0) -> None:
        if not 0 < low <= high:
            raise ValueError(f"RandomScale: low {low} and high {high} must keep 0 < low <= high")
        self.low, self.high = low, high

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Image bilinear and antialiased, mask nearest-exact."""
        factor = _uniform(self.low, self.high)
        # not below 2: torch's antialiased resize of 8 bits is wrong, or fails, for a width of 1
        size = (max(2, round(mask.shape[0] * factor)), max(2, round(mask.shape[1] * factor)))
        labels = resize_labels(_plain(mask)[None], size)[0]
        return tv_tensors.Image(resize_image(_plain(image), size)), tv_tensors.Mask(labels)


class RandomFlip:
    """Mirror left and right.

    Args:
        p: how often, 0 … 1.

    Raises:
        ValueError: `p` is no probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        _check_probability("RandomFlip", p)
        self.p = p

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Both or neither."""
        if _uniform(0, 1) >= self.p:
            return image, mask
        return TF.horizontal_flip(image), TF.horizontal_flip(mask)


class RandomRotate:
    """Rotate around the centre by an angle drawn uniformly; the size stays, the corners become padding.

    Args:
        degrees: largest angle to either side, 0 … 180.

    Raises:
        ValueError: `degrees` is out of range.
    """

    def __init__(self, degrees: float = 10.0) -> None:
        if not 0 <= degrees <= 180:
            raise ValueError(f"RandomRotate: degrees {degrees} must be 0 … 180")
        self.degrees = degrees

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Image bilinear, mask nearest."""
        angle = _uniform(-self.degrees, self.degrees)
        return (
            TF.rotate(image, angle, interpolation=InterpolationMode.BILINEAR, fill=0),
            TF.rotate(mask, angle, interpolation=InterpolationMode.NEAREST, fill=IGNORE),
        )


class ColorJitter:
    """Change brightness, contrast, saturation and hue of the image, in random order; the mask stays.

    Args:
        brightness: a factor is drawn from 1 ± this, 0 or above; so for the next two.
        contrast: as brightness.
        saturation: as brightness; without effect on one channel.
        hue: a shift is drawn from ± this part of the colour circle, 0 … 0.5; without effect on one channel.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self, brightness: float = 0.3, contrast: float = 0.3, saturation: float = 0.3, hue: float = 0.05
    ) -> None:
        for name, value, most in (
            ("brightness", brightness, float("inf")),
            ("contrast", contrast, float("inf")),
            ("saturation", saturation, float("inf")),
            ("hue", hue, 0.5),
        ):
            if not 0 <= value <= most:
                raise ValueError(f"ColorJitter: {name} {value} must be 0 … {most:g}")
        self.jitter = v2.ColorJitter(brightness, contrast, saturation, hue)

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """The image alone."""
        return self.jitter(image), mask


class RandomBlur:
    """Blur the image with a Gaussian; the mask stays.

    Args:
        p: how often, 0 … 1.
        low: smallest standard deviation in pixels, > 0.
        high: largest.

    Raises:
        ValueError: `p` is no probability; not 0 < low <= high.
    """

    def __init__(self, p: float = 0.5, low: float = 0.1, high: float = 2.0) -> None:
        _check_probability("RandomBlur", p)
        if not 0 < low <= high:
            raise ValueError(f"RandomBlur: low {low} and high {high} must keep 0 < low <= high")
        self.p, self.low, self.high = p, low, high

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """The image alone."""
        if _uniform(0, 1) >= self.p:
            return image, mask
        sigma = _uniform(self.low, self.high)
        reach = min(max(1, round(3 * sigma)), min(mask.shape) - 1)  # the border is mirrored: at most the image itself
        return TF.gaussian_blur(image, [2 * reach + 1] * 2, [sigma, sigma]), mask


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor)


def _check_probability(name: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p {p} must be 0 … 1")
