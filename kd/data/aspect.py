"""Sizes that a recipe may have written width first: the shape of the images shows it."""

import math
import statistics
from collections.abc import Sequence

from kd.data.dataset import read
from kd.types import SegmentationDataset

Size = tuple[int, int]  # (height, width)

PROBED = 5  # images, evenly spread
STRETCHED = 1.5  # times: a size that stretches the images less than this may be meant


def image_sizes(dataset: SegmentationDataset) -> list[Size]:
    """The sizes of some images of a split.

    Raises:
        DataError: one of them cannot be read.
    """
    count = min(PROBED, len(dataset))
    images = (read(dataset, number * len(dataset) // count).image for number in range(count))
    return [(image.shape[1], image.shape[2]) for image in images]


def swapped(key: str, size: Size, images: Sequence[Size]) -> str | None:
    """A warning if images fit a size far better with height and width exchanged.

    Args:
        key: of the recipe, which holds the size.
        size: that every image is resized to.
        images: sizes of images.
    """
    wide = statistics.median(math.log(width / height) for height, width in images)
    now, other = (math.exp(abs(wide - math.log(shape[1] / shape[0]))) for shape in (size, size[::-1]))
    if now < STRETCHED or now < STRETCHED * other:
        return None
    height, width = statistics.median_low(images)
    return (
        f"warning: {key} is [height, width]: {list(size)} makes images of {width}×{height} (width × height) {size[1]} "
        f"wide and {size[0]} high, which stretches them {now:.1f} times; did you mean {key}: {list(size[::-1])}?"
    )


def swapped_window(key: str, window: Size, size: Size, of: str) -> str | None:
    """A warning if a window fits into the images only with height and width exchanged.

    Args:
        key: of the recipe, which holds the window.
        window: that is cut out of every image.
        size: of the images.
        of: the key that holds this size.
    """

    def fits(window: Size) -> bool:
        return window[0] <= size[0] and window[1] <= size[1]

    if fits(window) or not fits((window[1], window[0])):
        return None
    return (
        f"warning: {key} is [height, width]: {list(window)} exceeds {of}: {list(size)}; "
        f"did you mean {key}: {list(window[::-1])}?"
    )
