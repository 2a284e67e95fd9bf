"""Transforms that move pixels: each states a map of points, and the image is sampled once, after all of them.

A geometric transform has a method `place(frame)`, which returns the frame of its output. `kd.data.splits.split.Split`
composes the frames of all geometric transforms of a recipe, in order, from `data.size` to the crop, and reads the
pixels of the file through the result. Called alone, with an image and its mask, a transform samples them itself.
"""

import math
from typing import Protocol, runtime_checkable

from torch import Tensor
from torchvision import tv_tensors

from kd.data.transforms.draws import check_probability, check_range, happens, uniform
from kd.data.transforms.sampling import Frame, sample_image, sample_labels

Pair = tuple[tv_tensors.Image, tv_tensors.Mask]


@runtime_checkable
class Geometric(Protocol):
    """A transform that states where the points of its output lie."""

    def place(self, frame: Frame) -> Frame:
        """The frame of the output; random numbers come from torch's CPU generator."""
        ...


class RandomScale:
    """Scale by a uniformly drawn factor; the crop that follows cuts or pads to the training size.

    Factor 1 is `data.size`. What a larger factor shows comes from the file, if its image is larger than `data.size`.

    Args:
        low: smallest factor, > 0.
        high: largest factor, >= `low`.
        p: probability, 0 … 1.

    Raises:
        ValueError: not 0 < low <= high; `p` is out of range.
    """

    def __init__(self, low: float = 0.5, high: float = 2.0, p: float = 1.0) -> None:
        check_range("RandomScale", low, high)
        check_probability("RandomScale", p)
        self.low, self.high, self.p = low, high, p

    def place(self, frame: Frame) -> Frame:
        """A frame of another size, in whole pixels, that shows the same."""
        if not happens(self.p):
            return frame
        factor = uniform(self.low, self.high)
        return _scaled(frame, factor, factor)

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Scale both."""
        return _sampled(self, image, mask)


class RandomAspect:
    """Change the ratio of width to height, at the same area, by a factor drawn uniformly in its logarithm.

    Args:
        low: smallest factor of width / height, > 0.
        high: largest factor, >= `low`.
        p: probability, 0 … 1.

    Raises:
        ValueError: not 0 < low <= high; `p` is out of range.
    """

    def __init__(self, low: float = 0.75, high: float = 4 / 3, p: float = 1.0) -> None:
        check_range("RandomAspect", low, high)
        check_probability("RandomAspect", p)
        self.low, self.high, self.p = low, high, p

    def place(self, frame: Frame) -> Frame:
        """A frame of another shape, in whole pixels, that shows the same."""
        if not happens(self.p):
            return frame
        root = math.exp(uniform(math.log(self.low), math.log(self.high)) / 2)
        return _scaled(frame, 1 / root, root)

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Stretch both."""
        return _sampled(self, image, mask)


class RandomRotate:
    """Rotate around the centre by a uniformly drawn angle; the size is unchanged, and empty corners become padding.

    Args:
        degrees: largest angle in either direction, 0 … 180.
        p: probability, 0 … 1.

    Raises:
        ValueError: `degrees` or `p` is out of range.
    """

    def __init__(self, degrees: float = 10.0, p: float = 1.0) -> None:
        if not 0 <= degrees <= 180:
            raise ValueError(f"RandomRotate: degrees must be 0 … 180, got {degrees}")
        check_probability("RandomRotate", p)
        self.degrees, self.p = degrees, p

    def place(self, frame: Frame) -> Frame:
        """A frame of the same size and centre, turned."""
        if not happens(self.p):
            return frame
        angle = math.radians(uniform(-self.degrees, self.degrees))
        height, width = frame.size
        cos, sin = math.cos(angle), math.sin(angle)
        return frame.moved(
            (cos, -sin, (width - cos * width + sin * height) / 2),
            (sin, cos, (height - sin * width - cos * height) / 2),
        )

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Rotate both."""
        return _sampled(self, image, mask)


class RandomShift:
    """Shift by a uniformly drawn number of whole pixels in each direction; the side that empties becomes padding.

    Args:
        share: largest shift, as a share of the height and of the width, 0 … 1.
        p: probability, 0 … 1.

    Raises:
        ValueError: `share` or `p` is out of range.
    """

    def __init__(self, share: float = 0.1, p: float = 1.0) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"RandomShift: share must be 0 … 1, got {share}")
        check_probability("RandomShift", p)
        self.share, self.p = share, p

    def place(self, frame: Frame) -> Frame:
        """A frame of the same size beside the given one."""
        if not happens(self.p):
            return frame
        down, right = (round(uniform(-self.share, self.share) * side) for side in frame.size)
        return frame.moved((1, 0, -right), (0, 1, -down))

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Shift both."""
        return _sampled(self, image, mask)


class RandomFlip:
    """Flip horizontally: left becomes right.

    Args:
        p: probability, 0 … 1.
        vertical: flip vertically instead: top becomes bottom. List the transform twice for both.

    Raises:
        ValueError: `p` is out of range.
    """

    def __init__(self, p: float = 0.5, vertical: bool = False) -> None:
        check_probability("RandomFlip", p)
        self.p, self.vertical = p, vertical

    def place(self, frame: Frame) -> Frame:
        """The frame, mirrored."""
        if not happens(self.p):
            return frame
        if self.vertical:
            return frame.moved((1, 0, 0), (0, -1, frame.size[0]))
        return frame.moved((-1, 0, frame.size[1]), (0, 1, 0))

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        """Flip both."""
        return _sampled(self, image, mask)


def _scaled(frame: Frame, down: float, right: float) -> Frame:
    # at least 2: torch's antialiased resize of 8-bit images is wrong, or fails, at width 1
    return frame.resized((max(2, round(frame.size[0] * down)), max(2, round(frame.size[1] * right))))


def _sampled(transform: Geometric, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
    pixels, labels = image.as_subclass(Tensor), mask.as_subclass(Tensor)
    frame = transform.place(Frame.of(mask.shape, mask.shape))
    return tv_tensors.Image(sample_image(pixels, frame)), tv_tensors.Mask(sample_labels(labels, frame))
