"""The images of a comparison's page: each with its labels, the predictions and what changed, as HTML."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.compare import tables
from kd.compare.comparison import Comparison
from kd.compare.page.predictions import Picture, Pictures
from kd.constants import IGNORE
from kd.pictures import changes, colourise, differences, jpeg, marks_png, png

SIDES = (640, 480, 320, 240)  # pixels of the longer side of an image: the first that keeps its article below LARGEST
LARGEST = 200_000  # characters
OPEN = 12  # images whose pictures are in sight; those of the others are folded up, and in the viewer
CELLS = 40  # changed confusions of an image that the page knows


def images_html(comparison: Comparison, shown: Pictures) -> str:
    """The legend and an article for each image."""
    problems = "".join(f'<p class="warning">{escape(line)}</p>' for line in shown.problems)
    if not shown.pictures:
        return problems
    legend = "".join(
        f"<span>{swatch(color)}{escape(name)}</span>"
        for name, color in zip(comparison.classes, shown.colors, strict=True)
    )
    marks = (
        '<p class="quiet">Orange: differs. Against the baseline: <i class="swatch gained"></i>fixed, '
        '<i class="swatch lost"></i>broken, <i class="swatch still"></i>both wrong. '
        "Stripes in label maps: ignored pixels. All predictions are those of the first seed.</p>"
    )
    articles = [_article(comparison, picture, shown.colors) for picture in shown.pictures]
    more = "".join(articles[OPEN:])
    if more:
        more = f"<details><summary>{len(articles) - OPEN} more images</summary>{more}</details>"
    return f'{problems}<div class="legend">{legend}</div>{marks}<div id="viewer"></div>{"".join(articles[:OPEN])}{more}'


def swatch(color: tuple[int, int, int]) -> str:
    """A small square in a class's colour."""
    return f'<i class="swatch" style="background:rgb({color[0]},{color[1]},{color[2]})"></i>'


def picture_data(comparison: Comparison, shown: Pictures) -> list[dict[str, Any]]:
    """Of each image its title, and for each student the confusions that changed most: [label, predicted, pixels]."""
    return [
        {"title": _title(picture), "changed": dict(_changed(comparison, picture, len(comparison.classes)))}
        for picture in shown.pictures
    ]


def _changed(comparison: Comparison, picture: Picture, num_classes: int) -> Iterator[tuple[str, list[list[int]]]]:
    for student in comparison.of_role("student"):
        after, before = picture.predictions.get(student.key), picture.predictions.get(student.baseline or "")
        if after is not None and before is not None:
            counts = _counts(picture.labels, after, num_classes) - _counts(picture.labels, before, num_classes)
            most = np.argsort(-np.abs(counts), axis=None, kind="stable")[:CELLS]
            places = (divmod(int(place), num_classes) for place in most)
            yield student.key, [[i, j, int(counts[i, j])] for i, j in places if counts[i, j]]


def _counts(labels: NDArray[np.uint8], predicted: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Pixels by label (rows) and prediction."""
    valid = (labels != IGNORE) & (predicted < num_classes)
    pairs = labels[valid].astype(np.int64) * num_classes + predicted[valid]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _title(picture: Picture) -> str:
    name = "/".join(Path(picture.name).parts[-2:])
    known = "" if picture.difference is None else f": {tables.points(picture.difference)} points"
    return f"{name} ({picture.why}{known})"


def _article(comparison: Comparison, picture: Picture, colors: Sequence[tuple[int, int, int]]) -> str:
    html = ""
    for side in SIDES:
        small = _smaller_picture(picture, side)
        html = "".join(_figure(small, *column) for column in _columns(comparison, small, colors))
        if len(html) <= LARGEST:
            break
    return f'<article><h3>{escape(_title(picture))}</h3><div class="strip">{html}</div></article>'


def _columns(
    comparison: Comparison, picture: Picture, colors: Sequence[tuple[int, int, int]]
) -> Iterator[tuple[str, bytes, bool]]:
    """The pictures of one image: title, file, and whether it is laid over the image."""
    labels, predictions = picture.labels, picture.predictions
    yield "image", jpeg(picture.image), False
    yield "labels", png(colourise(labels, colors)), False
    for entry in comparison.entries:
        if entry.key in predictions:
            yield comparison.label(entry), png(colourise(predictions[entry.key], colors)), False
    for student in comparison.of_role("student"):
        if student.key not in predictions:
            continue
        name, predicted = comparison.label(student), predictions[student.key]
        if (baseline := predictions.get(student.baseline or "")) is not None:
            yield f"{name}: fixed and broken", marks_png(changes(baseline, predicted, labels)), True
        else:
            yield f"{name} ≠ labels", marks_png(differences(predicted, labels)), True
        if (teacher := predictions.get(student.teacher or "")) is not None:
            yield f"{name} ≠ teacher", marks_png(differences(predicted, teacher)), True


def _smaller_picture(picture: Picture, side: int) -> Picture:
    return replace(
        picture,
        image=_smaller(picture.image, side),
        labels=_smaller(picture.labels, side),
        predictions={key: _smaller(predicted, side) for key, predicted in picture.predictions.items()},
    )


def _smaller(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture of at most so many pixels a side; label maps keep their classes."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.LANCZOS if picture.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(size, how))


def _figure(picture: Picture, title: str, data: bytes, over_image: bool) -> str:
    height, width = picture.labels.shape
    small = ' class="pixels"' if width < 160 else ""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    marked = ' class="marked"' if over_image else ""
    return (
        f'<figure><div{marked}><img{small} src="{uri}" alt="{escape(f"{title} of {picture.name}")}" '
        f'width="{width}" height="{height}"></div><figcaption>{escape(title)}</figcaption></figure>'
    )
