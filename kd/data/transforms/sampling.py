"""One resampling of an image and its labels, from the pixels of the file to the pixels of a training image."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kd.data.dataset import resize_image
from kd.types import IGNORE, size_of

Size = tuple[int, int]  # (height, width) in pixels
Row = tuple[float, float, float]

WHOLE = 1e-6  # pixels: an image whose borders are this close to whole pixels lies on them
LARGE = 2_000_000  # pixels of an enlarged image
DENSE = 4.0  # file pixels a sampled pixel: an image that is denser is reduced by a whole number first


class Frame(NamedTuple):
    """The frame of an image that is to be sampled, and where its points lie in the file.

    A point is (column, row) in pixels from the frame's top left corner; (0.5, 0.5) is the centre of the first pixel.
    """

    size: Size
    x: Row  # (a, b, c): the column in the file is a · column + b · row + c
    y: Row  # the same for the row in the file

    @classmethod
    def of(cls, file: Sequence[int], size: Sequence[int]) -> "Frame":
        """The frame of a whole image of a size (H, W) `file`, resized to `size`."""
        return cls((size[0], size[1]), (file[1] / size[1], 0.0, 0.0), (0.0, file[0] / size[0], 0.0))

    def moved(self, x: Row, y: Row, size: Size | None = None) -> "Frame":
        """The frame whose point (column, row) is this frame's point (x · (column, row, 1), y · (column, row, 1)).

        Args:
            x: the column of this frame's point, as in `Frame.x`.
            y: its row.
            size: of the new frame; None for that of this one.
        """

        def after(row: Row) -> Row:
            a, b, c = (row[0] * x[i] + row[1] * y[i] for i in range(3))
            return a, b, c + row[2]

        return Frame(self.size if size is None else size, after(self.x), after(self.y))

    def resized(self, size: Size) -> "Frame":
        """A frame of another size that shows the same."""
        return self.moved((self.size[1] / size[1], 0, 0), (0, self.size[0] / size[0], 0), size)

    def window(self, top: int, left: int, size: Size) -> "Frame":
        """A window of this frame, which may exceed it."""
        return self.moved((1, 0, left), (0, 1, top), size)


class _Side(NamedTuple):
    """Rows, or columns, of a frame that shows an image upright and on whole pixels."""

    length: int  # of the frame
    whole: int  # length of the whole image in the frame's pixels
    start: int  # where it begins
    flipped: bool

    @property
    def shown(self) -> slice:
        """The pixels of the frame where the image is."""
        first = min(max(self.start, 0), self.length)
        return slice(first, max(first, min(self.start + self.whole, self.length)))

    @property
    def of_whole(self) -> slice:
        """The same pixels, counted in the resized image."""
        first, last = self.shown.start - self.start, self.shown.stop - self.start
        return slice(self.whole - last, self.whole - first) if self.flipped else slice(first, last)


def sample_image(image: Tensor, frame: Frame) -> Tensor:
    """The image in a frame: bilinear, antialiased where it shrinks, 0 outside.

    An image that is upright and on whole pixels is resized by torchvision and cut, unless the frame shows a small part
    of a large enlarged image (the same values, up to rounding); hence a frame of the file's size
    holds the file's pixels, and that of a resized image holds what an evaluation sees.

    Args:
        image: uint8 (C, H, W), as in the file.
        frame: what is wanted of it.

    Returns:
        uint8 (C, h, w), a copy.
    """
    sides = _sides(size_of(image), frame)
    if sides is None or _is_small_part(size_of(image), frame.size, *sides):
        return _interpolated(image, frame)
    rows, columns = sides
    resized = resize_image(image, (rows.whole, columns.whole))
    window = resized[:, rows.of_whole, columns.of_whole]
    flipped = [axis for axis, side in ((1, rows), (2, columns)) if side.flipped]
    canvas = image.new_zeros(image.shape[0], *frame.size)
    canvas[:, rows.shown, columns.shown] = window.flip(flipped) if flipped else window
    return canvas


def sample_labels(labels: Tensor, frame: Frame) -> Tensor:
    """The labels in a frame: each pixel takes the label under its centre; IGNORE outside.

    Args:
        labels: uint8 (H, W), as in the file.
        frame: what is wanted of them.

    Returns:
        uint8 (h, w), a copy.
    """
    sides = _sides(size_of(labels), frame)
    if sides is None:
        rows, columns = (points.long() for points in _centres(frame))
        height, width = labels.shape
        found = labels[rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
        return found.masked_fill_(_outside(size_of(labels), frame), IGNORE)
    indices = []
    for side, length in zip(sides, labels.shape, strict=True):
        pixels = torch.arange(side.of_whole.start, side.of_whole.stop, dtype=torch.float64)
        index = ((pixels + 0.5) * (length / side.whole)).long()  # as `kd.types.resize_labels`
        indices.append(index.flip(0) if side.flipped else index)
    canvas = labels.new_full(frame.size, IGNORE)
    canvas[sides[0].shown, sides[1].shown] = labels[indices[0][:, None], indices[1]]
    return canvas


def _sides(file: Size, frame: Frame) -> tuple[_Side, _Side] | None:
    """The rows and columns of a frame, if it shows the image upright and on whole pixels."""
    if frame.x[1] or frame.y[0]:
        return None
    rows = _side(file[0], frame.size[0], frame.y[1], frame.y[2])
    columns = _side(file[1], frame.size[1], frame.x[0], frame.x[2])
    return (rows, columns) if rows and columns else None


def _side(pixels: int, length: int, step: float, offset: float) -> _Side | None:
    """One of both: `length` pixels of a frame, at `step` · pixel + `offset` of the file's `pixels`."""
    whole = pixels / abs(step)
    start = ((pixels if step < 0 else 0) - offset) / step
    if max(abs(whole - round(whole)), abs(start - round(start))) > WHOLE:
        return None
    return _Side(length, round(whole), round(start), step < 0)


def _is_small_part(file: Size, size: Size, rows: _Side, columns: _Side) -> bool:
    """Whether a frame shows so little of a large enlarged image that it is faster not to enlarge the whole."""
    whole = rows.whole * columns.whole
    enlarged = rows.whole >= file[0] and columns.whole >= file[1]
    return enlarged and whole > max(LARGE, 4 * size[0] * size[1])


def _interpolated(image: Tensor, frame: Frame) -> Tensor:
    """The image in any frame: the mean of several points a pixel where it shrinks, each interpolated bilinearly."""
    outside = _outside(size_of(image), frame)
    image, frame = _cut(*_reduced(image, frame))
    across, down = (max(1, math.ceil(math.hypot(x, y) - WHOLE)) for x, y in zip(frame.x[:2], frame.y[:2], strict=True))
    height, width = frame.size
    rows, columns = _centres(frame.moved((1 / across, 0, 0), (0, 1 / down, 0), (height * down, width * across)))
    grid = torch.empty(1, *rows.shape, 2)
    grid[..., 0] = columns * (2 / image.shape[2]) - 1
    grid[..., 1] = rows * (2 / image.shape[1]) - 1
    points = F.grid_sample(image[None].float(), grid, padding_mode="border", align_corners=False)
    means = points[0] if across == down == 1 else F.avg_pool2d(points, (down, across))[0]
    return means.round_().to(torch.uint8).masked_fill_(outside, 0)


def _reduced(image: Tensor, frame: Frame) -> tuple[Tensor, Frame]:
    """An image of few points a pixel: where there are `DENSE` or more on a side, it is first resized to fewer."""
    sizes = []
    for side, row in zip(image.shape[1:], (frame.y, frame.x), strict=True):
        points = math.hypot(row[0], row[1])
        sizes.append(max(2, round(side / int(points / 2))) if points >= DENSE else side)
    rows, columns = (new / old for new, old in zip(sizes, image.shape[1:], strict=True))
    x, y = ((a * by, b * by, c * by) for (a, b, c), by in ((frame.x, columns), (frame.y, rows)))
    return resize_image(image, (sizes[0], sizes[1])), Frame(frame.size, x, y)


def _cut(image: Tensor, frame: Frame) -> tuple[Tensor, Frame]:
    """The part of an image that a frame shows, with the neighbours that interpolation reads."""
    height, width = frame.size
    corners = [(column, row) for column in (0, width) for row in (0, height)]
    spans = []
    for side, (a, b, c) in zip(image.shape[1:], (frame.y, frame.x), strict=True):
        places = [a * column + b * row + c for column, row in corners]
        first = min(max(math.floor(min(places)) - 1, 0), side - 1)
        spans.append(slice(first, max(first + 1, min(math.ceil(max(places)) + 1, side))))
    x, y = ((a, b, c - span.start) for (a, b, c), span in zip((frame.x, frame.y), reversed(spans), strict=True))
    return image[:, spans[0], spans[1]], Frame(frame.size, x, y)


def _centres(frame: Frame) -> tuple[Tensor, Tensor]:
    """The row and the column in the file of the centre of every pixel, float64 (h, w)."""
    rows = torch.arange(frame.size[0], dtype=torch.float64)[:, None] + 0.5
    columns = torch.arange(frame.size[1], dtype=torch.float64) + 0.5
    row, column = (a * columns + (b * rows + c) for a, b, c in (frame.y, frame.x))
    return row, column


def _outside(file: Size, frame: Frame) -> Tensor:
    """Whether a pixel's centre lies outside the image, bool (h, w)."""
    rows, columns = _centres(frame)
    return (rows < 0) | (rows >= file[0]) | (columns < 0) | (columns >= file[1])
