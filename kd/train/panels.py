"""Pictures for TensorBoard and W&B: validation images beside what the network sees in them, confusion matrices."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from kd.data.loader import evaluation_batches
from kd.parts.assemble import Parts
from kd.runs import SplitResult
from kd.scoring import full_size, predict
from kd.types import resize_labels

MATRIX = 640  # pixels that a matrix takes, more or less
CELL = (4, 40)  # pixels: smallest and largest
READABLE = 12  # pixels of a cell beside which a class's name fits
NUMBERED = 26  # pixels of a cell that a percentage fits into
BLUE = (8, 48, 107)


def pictures(parts: Parts, result: SplitResult, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    """The confusion matrix of a score, and `log.panels` images with labels and prediction, as `<prefix>/<name>`."""
    yield f"{prefix}/confusion", confusion_picture(result.confusion, result.classes)
    for name, picture in _panels(parts):
        yield f"{prefix}/{name}", picture


def confusion_picture(confusion: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """A confusion matrix as uint8 RGB (H, W, 3): the darker, the larger the share of a label's pixels.

    Args:
        confusion: rows are labels, columns predictions. A row without pixels stays white.
        classes: their names; written where there is room, as are shares in percent.
    """
    counts = np.asarray(confusion, np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
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


def _panels(parts: Parts) -> Iterator[tuple[str, np.ndarray]]:
    """A few validation images: image, labels and prediction side by side, uint8 RGB (H, 3·W, 3)."""
    palette = torch.tensor([*parts.val.colors, *[(0, 0, 0)] * (256 - len(parts.val.colors))], dtype=torch.uint8)
    training = parts.student.training
    parts.student.eval()
    try:
        batches = evaluation_batches(parts.val, parts.recipe.scored_size, batch_size=1)
        for batch in islice(batches, parts.recipe.log.panels):
            logits = predict(parts.network, batch.images, parts.precision, parts.recipe.evaluate)[0]
            size = (batch.images.shape[-2], batch.images.shape[-1])
            image = batch.images[0].expand(3, -1, -1) if batch.images.shape[1] == 1 else batch.images[0, :3]
            labels = resize_labels(batch.labels[0][None].long(), size)[0]
            columns = [image.permute(1, 2, 0), palette[labels], palette[full_size(logits, size).cpu()]]
            yield batch.names[0], torch.cat(columns, 1).numpy()
    finally:
        parts.student.train(training)
