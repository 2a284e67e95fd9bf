"""Transforms that change the colours of an image and leave its mask as it is, built on torchvision's v2 functions."""

from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from kd.data.transforms.draws import check_probability, check_range, happens, uniform

Pair = tuple[tv_tensors.Image, tv_tensors.Mask]


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

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Change the image only."""
        return (self.jitter(image) if happens(self.p) else image), mask


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

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Blur the image only."""
        if not happens(self.p):
            return image, mask
        sigma = uniform(self.low, self.high)
        radius = min(max(1, round(3 * sigma)), min(mask.shape) - 1)  # reflection padding is at most the image itself
        return TF.gaussian_blur(image, [2 * radius + 1] * 2, [sigma, sigma]), mask
