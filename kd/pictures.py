"""Pictures of images, label maps, their differences and confusion matrices.

Pictures are RGB, uint8, (H, W, 3); label maps are (H, W) with 0 … K-1 and IGNORE.
"""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kd.constants import IGNORE

RGB = NDArray[np.uint8]
Labels = NDArray[np.integer]
Marks = NDArray[np.uint8]  # (H, W): 0, or 1 more than a place in MARKS
Colors = Sequence[tuple[int, int, int]]

VOID = ((235, 235, 235), (90, 90, 90))  # stripes of ignored pixels: a single colour could be that of a class
STRIPE = 3  # pixels
QUALITY = 88  # of JPEG files
BAND = 256  # rows that are mixed at a time, in float64
WRONG = (213, 94, 0)  # colour-blind readers can distinguish this colour and the next two
GAINED = (0, 114, 178)
LOST = (230, 159, 0)
STILL_WRONG = (110, 110, 110)
MARKS = (WRONG, GAINED, LOST, STILL_WRONG)

MATRIX = 640  # pixels: about the side of a confusion matrix
CELL = (4, 40)  # pixels: smallest and largest cell
READABLE = 12  # pixels: the smallest cell with the name of a class beside it
NUMBERED = 26  # pixels: the smallest cell with a percentage in it
BLUE = (8, 48, 107)


def as_rgb(image: NDArray[np.uint8]) -> RGB:
    """An image (C, H, W) as RGB, the same values in memory if C is 3; else the first channel as grey."""
    return np.moveaxis(image if len(image) == 3 else np.repeat(image[:1], 3, 0), 0, 2)


def colourise(labels: Labels, colors: Colors) -> RGB:
    """A label map in the colours of the classes; ignored pixels are striped."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = np.asarray(colors, np.uint8)
    picture = palette[labels]
    rows, columns = np.nonzero(labels == IGNORE)
    picture[rows, columns] = np.asarray(VOID, np.uint8)[(rows + columns) // STRIPE % 2]
    return picture


def overlay(image: RGB, labels: Labels, colors: Colors, opacity: float = 0.5) -> RGB:
    """A label map over its image; ignored pixels show the image."""
    picture = np.empty(image.shape, np.uint8)
    for top in range(0, len(image), BAND):
        band, classes = image[top : top + BAND], labels[top : top + BAND]
        mixed = band * (1 - opacity) + colourise(classes, colors) * opacity
        picture[top : top + BAND] = np.where((classes == IGNORE)[..., None], band, mixed.round())
    return picture


def differences(prediction: Labels, other: Labels) -> Marks:
    """The pixels where two label maps differ, marked as wrong; pixels that `other` ignores are not."""
    return np.where((prediction != other) & (other != IGNORE), 1, 0).astype(np.uint8)


def changes(before: Labels, after: Labels, labels: Labels) -> Marks:
    """The pixels that became right (blue), became wrong (yellow) or stayed wrong (grey)."""
    was_right, is_right = before == labels, after == labels
    kinds = np.select([~was_right & is_right, was_right & ~is_right, ~was_right & ~is_right], [2, 3, 4], 0)
    return np.where(labels != IGNORE, kinds, 0).astype(np.uint8)


def marks_png(marks: Marks) -> bytes:
    """Marks as a PNG file that is transparent where nothing is marked: a twentieth of the bytes of a photograph."""
    picture = Image.fromarray(marks)
    picture.putpalette([level for color in ((0, 0, 0), *MARKS) for level in color])
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, transparency=0)
    return file.getvalue()


def panel(*rows: Sequence[tuple[str, RGB]], width: int = 240) -> bytes:
    """Draw images side by side under their titles, as a PNG.

    Args:
        rows: sequences of (title, image) of equal length; the titles are those of the first row, sizes may differ.
        width: of each column, in pixels; images keep their aspect ratio and are cut to the lowest of their row.

    Raises:
        ValueError: the rows have different numbers of images.
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
    """Scale an image to a width; the pixels of small images stay visible."""
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    return Image.fromarray(image).resize(
        size, Image.Resampling.NEAREST if width >= image.shape[1] else Image.Resampling.LANCZOS
    )


def png(image: RGB) -> bytes:
    """A picture as a PNG file, with a palette if it has at most 256 colours (a label map): a fifth of the bytes."""
    picture = Image.fromarray(image)
    if (colors := picture.getcolors(256)) is not None:
        picture = picture.quantize(max(2, len(colors)), dither=Image.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def label_png(labels: Labels, colors: Colors) -> bytes:
    """A label map as a PNG file whose pixels are the class indices and IGNORE, shown in the colours of the classes."""
    picture = Image.fromarray(labels.astype(np.uint8, copy=False))
    palette = [*colors]
    if (labels == IGNORE).any():  # Pillow writes as few bits a pixel as the palette needs
        palette += [VOID[0]] * (IGNORE + 1 - len(palette))
    picture.putpalette([level for color in palette for level in color])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def jpeg(image: RGB) -> bytes:
    """A picture as a JPEG file: for photographs on a page."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def confusion_picture(confusion: NDArray[np.integer], classes: Sequence[str]) -> RGB:
    """A confusion matrix: the larger the share of a label's pixels, the darker its cell.

    Args:
        confusion: rows are labels, columns predictions. A row without pixels stays white.
        classes: the names of the classes; they, and the shares in percent, are written where there is room.
    """
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    cell = int(np.clip(MATRIX // len(classes), *CELL))
    font = ImageFont.load_default(size=11)
    names = list(classes) if cell >= READABLE else [""] * len(classes)
    margin = round(max(font.getlength(name) for name in names)) + 8
    size = margin + cell * len(classes) + 1
    canvas = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(canvas)
    colors = np.round(255 + shares[..., None] * (np.asarray(BLUE) - 255)).astype(np.uint8)
    canvas.paste(Image.fromarray(colors).resize((cell * len(classes),) * 2, Image.Resampling.NEAREST), (margin, margin))
    for index, name in enumerate(names):
        middle = margin + cell * index + cell // 2
        draw.text((margin - 4, middle), name, "black", font, anchor="rm")
        sideways = Image.new("RGB", (margin, cell), "white")
        ImageDraw.Draw(sideways).text((4, cell // 2), name, "black", font, anchor="lm")
        canvas.paste(sideways.rotate(90, expand=True), (middle - cell // 2, 0))
    if cell >= NUMBERED:
        for row, column in np.argwhere(shares >= 0.005):
            place = (margin + cell * column + cell // 2, margin + cell * row + cell // 2)
            color = "white" if shares[row, column] > 0.5 else "black"
            draw.text(place, f"{100 * shares[row, column]:.0f}", color, font, anchor="mm")
    return np.asarray(canvas)
