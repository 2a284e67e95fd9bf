"""Pictures of images, label maps and their differences, as arrays, PNG bytes and inline SVG.

Arrays are RGB, uint8, (H, W, 3); label maps are (H, W) with 0 … K-1 and IGNORE.
"""

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kd import IGNORE

RGB = NDArray[np.uint8]
Labels = NDArray[np.integer]
Colors = Sequence[tuple[int, int, int]]

VOID = ((235, 235, 235), (90, 90, 90))  # stripes of pixels that are not scored: any one colour may be a class's
STRIPE = 3  # pixels
WRONG = (213, 94, 0)  # this and the next two stay apart for colour-blind readers
GAINED = (0, 114, 178)
LOST = (230, 159, 0)
STILL_WRONG = (110, 110, 110)

MARKED = 30  # a curve of at most so many points shows each


def as_rgb(image: NDArray[np.uint8]) -> RGB:
    """An image (C, H, W) as RGB: three channels as they are, of any other number the first one as grey."""
    return np.ascontiguousarray(np.moveaxis(image if len(image) == 3 else np.repeat(image[:1], 3, 0), 0, 2))


def colourise(labels: Labels, colors: Colors) -> RGB:
    """A label map in its classes' colours; IGNORE is striped."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = np.asarray(colors, np.uint8)
    rows, columns = np.indices(labels.shape)
    stripes = np.asarray(VOID, np.uint8)[(rows + columns) // STRIPE % 2]
    return np.where((labels == IGNORE)[..., None], stripes, palette[labels])


def overlay(image: RGB, labels: Labels, colors: Colors, opacity: float = 0.5) -> RGB:
    """The label map over its image; IGNORE leaves the image as it is."""
    mixed = image * (1 - opacity) + colourise(labels, colors) * opacity
    return np.where((labels == IGNORE)[..., None], image, mixed.round()).astype(np.uint8)


def differences(image: RGB, prediction: Labels, other: Labels) -> RGB:
    """Where two label maps differ, in orange over the faded image; IGNORE in `other` never differs."""
    return _mark(image, [((prediction != other) & (other != IGNORE), WRONG)])


def changes(image: RGB, before: Labels, after: Labels, labels: Labels) -> RGB:
    """What became right (blue), what became wrong (yellow) and what stayed wrong (grey), over the faded image."""
    scored = labels != IGNORE
    was_right, is_right = before == labels, after == labels
    return _mark(
        image,
        [
            (scored & ~was_right & is_right, GAINED),
            (scored & was_right & ~is_right, LOST),
            (scored & ~was_right & ~is_right, STILL_WRONG),
        ],
    )


def _mark(image: RGB, marks: Sequence[tuple[NDArray[np.bool_], tuple[int, int, int]]]) -> RGB:
    faded = np.repeat(200 + image.mean(2, keepdims=True) * (55 / 255), 3, 2).astype(np.uint8)
    for where, color in marks:
        faded[where] = color
    return faded


def panel(*rows: Sequence[tuple[str, RGB]], width: int = 240) -> bytes:
    """Images side by side under their titles, as a PNG.

    Args:
        rows: each a sequence of (title, image); the titles are those of the first row, the sizes may differ.
        width: of each column, in pixels; images keep their aspect ratio and are cut at their row's lowest height.
    """
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError(f"panel: rows have {[len(row) for row in rows]} images; give each row the same columns")
    gap, header = 6, 26
    cells = [[_fit(image, width) for _, image in row] for row in rows]
    heights = [min(cell.height for cell in row) for row in cells]
    columns = len(rows[0])
    size = (columns * (width + gap) - gap, header + sum(heights) + gap * (len(rows) - 1))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=16)
    top = header
    for column, (title, _) in enumerate(rows[0]):
        draw.text((column * (width + gap) + width / 2, header / 2), title, "black", font, anchor="mm")
    for row, height in zip(cells, heights, strict=True):
        for column, cell in enumerate(row):
            canvas.paste(cell.crop((0, 0, width, height)), (column * (width + gap), top))
        top += height + gap
    return png(np.asarray(canvas))


def _fit(image: RGB, width: int) -> Image.Image:
    """Scaled to a width; small images keep their pixels visible."""
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    return Image.fromarray(image).resize(
        size, Image.Resampling.NEAREST if width >= image.shape[1] else Image.Resampling.LANCZOS
    )


def png(image: RGB) -> bytes:
    """An RGB array as a PNG file; few colours (a label map) become a palette, at a fifth of the bytes."""
    picture = Image.fromarray(image)
    if (colors := picture.getcolors(256)) is not None:
        picture = picture.quantize(max(2, len(colors)), dither=Image.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def jpeg(image: RGB) -> bytes:
    """An RGB array as a JPEG file: for photographs in a page."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=88)
    return file.getvalue()


def data_uri(data: bytes) -> str:
    """An image file as the text that a page carries it in."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


class Line(NamedTuple):
    """One curve of a chart."""

    label: str
    color: str  # any CSS colour, a page's variable too
    points: Sequence[tuple[float, float]]
    dashed: bool = False


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """Curves as an inline SVG that takes its text colour from the page; values that are not finite are left out."""
    lines = [line._replace(points=[p for p in line.points if math.isfinite(p[1])]) for line in lines]
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    if not xs:
        return ""
    width, height, left, right, top, bottom = 560, 260, 52, 12, 10, 40
    x_ticks = ticks(0, max(xs))
    y_ticks = ticks(min(0.0, min(ys)), max(ys))
    x_high = max(max(xs), 1e-9)
    y_low, y_high = min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys), min(ys) + 1e-9)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + x / x_high * (width - left - right),
            height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom),
        )

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for tick in y_ticks:
        _, y = at(0, tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in x_ticks:
        x, _ = at(tick, y_low)
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(12 {(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    for line in lines:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line.points))
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        if len(line.points) <= MARKED and not line.dashed:
            marks = (at(*point) for point in line.points)
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.color}"/>' for x, y in marks]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line.color}" stroke-width="2"'
            f' stroke-linejoin="round"{dash}><title>{escape(line.label)}</title></polyline>'
        )
    seen = {line.label: line for line in reversed(lines)}  # several seeds of one network are one entry
    legend = "".join(
        f'<span><i style="border-top:3px {"dashed" if line.dashed else "solid"} {line.color}"></i>'
        f"{escape(label)}</span>"
        for label, line in reversed(seen.items())
    )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{''.join(parts)}</svg>"
        f'<div class="legend">{legend}</div></figure>'
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers 1, 2 or 5 × 10ⁿ apart that lie in [low, high], about `about` of them."""
    span = high - low
    if span <= 0:
        return [low]
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _number(value: float) -> str:
    if abs(value) >= 1e6 or (value and abs(value) < 1e-3):
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:g}"
