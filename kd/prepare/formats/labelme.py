"""labelme: a JSON file beside each image, with polygons, rectangles, circles and masks."""

import base64
import io
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.errors import DataError
from kd.prepare.faults import annotated_twice, misdrawn
from kd.prepare.files import Images, split_of
from kd.prepare.formats.checked_json import Record, peek, read_json
from kd.prepare.formats.draw import Region, Shape, area_of, check_coordinates, disc, fill, paint
from kd.prepare.formats.export import (
    Export,
    Item,
    Mask,
    Names,
    Source,
    chosen_names,
    find_image,
    sized_header,
    without_annotation,
)
from kd.units import counted


class _Shape(Record):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = "polygon"
    mask: str | None = None  # PNG of the box between the two points, in base64


class _File(Record):
    shapes: list[_Shape]
    imagePath: str  # noqa: N815  # labelme's
    imageHeight: int | None = None  # noqa: N815
    imageWidth: int | None = None  # noqa: N815


_DRAWN = ("polygon", "rectangle", "rotation", "circle", "mask")  # rotation: X-AnyLabeling's turned rectangle


def read(source: Source) -> Export | None:
    """The images that have a JSON file."""
    files = [name for name in source.marks.named(".json") if _is_labelme(source.file(name))]
    if not files:
        return None
    images = Images(source.images)
    contents = {name: read_json(source.file(name), _File) for name in files}
    labels = sorted({shape.label for content in contents.values() for shape in content.shapes})
    names = chosen_names(source, labels, str(source.marks.root))
    by_area = source.overlap == "area"
    items: dict[str, Item] = {}
    file_of: dict[str, str] = {}  # of an image
    kinds: Counter[str] = Counter()
    for file, content in contents.items():
        where = str(source.file(file))
        name = find_image(images, content.imagePath, file, where)
        if name in items:
            raise annotated_twice(where, name, str(source.file(file_of[name])))
        kinds.update(shape.shape_type or "polygon" for shape in content.shapes)
        stated = (content.imageHeight, content.imageWidth) if content.imageHeight and content.imageWidth else None
        size = sized_header(images.path(name), stated, where)
        mask = partial(_paint, content, size, names, by_area, where, source.holes)
        items[name], file_of[name] = Item(images.path(name), name, split_of(name), mask), file
    drawn = sum(kinds[kind] for kind in _DRAWN)
    notes = [f"overlaps: {'the smaller object' if by_area else 'the later shape'} is on top"]
    for kind in sorted(kinds.keys() - set(_DRAWN)):
        notes.append(f"warning: not drawn: {counted(kinds[kind], 'shape')} of type {kind}")
    notes += without_annotation(images, items.values())
    what = f"labelme, {counted(len(files), 'file')}, {counted(drawn, 'object')}"
    return Export(what, list(items.values()), {"classes": list(names.names)}, notes)


def _is_labelme(path: Path) -> bool:
    text = peek(path)
    return b'"shapes"' in text and any(key in text for key in (b'"imagePath"', b'"imageHeight"', b'"imageData"'))


def _paint(content: _File, size: tuple[int, int], names: Names, by_area: bool, where: str, holes: bool) -> Mask:
    shapes = [
        _shape(shape, size, names.label_of[shape.label], f"{where}: shapes[{number}]", holes)
        for number, shape in enumerate(content.shapes)
        if (shape.shape_type or "polygon") in _DRAWN
    ]
    return paint(shapes, size, by_area=by_area)


def _shape(shape: _Shape, size: tuple[int, int], label: int, where: str, holes: bool) -> Shape:
    points = np.array(shape.points, np.float64).reshape(-1, 2)
    check_coordinates(points, where)
    kind = shape.shape_type or "polygon"
    if kind == "rotation" or (kind == "rectangle" and len(points) == 4):  # four corners, as X-AnyLabeling writes them
        kind = "polygon"
    if kind != "polygon" and len(points) != 2:
        raise misdrawn(where, f"a {kind} of {len(points)} points in place of 2")
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        center = (float(points[0, 0]), float(points[0, 1]))
        return Shape(label, np.pi * radius**2, partial(disc, center, radius, size))
    if kind == "mask":
        return Shape(label, area_of([_corners(points)]), partial(_box, shape.mask or "", points, size, where))
    outline = _corners(points) if kind == "rectangle" else points
    return Shape(label, area_of([outline]), partial(fill, [outline], size, where, holes=holes))


def _corners(points: NDArray[np.float64]) -> NDArray[np.float64]:
    (left, top), (right, bottom) = points
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _box(text: str, points: NDArray[np.float64], size: tuple[int, int], where: str) -> Region:
    """A mask of a box, whose corners are pixels: the second is in it."""
    region = np.zeros(size, dtype=bool)
    left, top = np.floor(points.min(0)).astype(int).tolist()
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
            if image.width > size[1] + 1 or image.height > size[0] + 1:
                raise misdrawn(where, "a mask larger than the image")
            part = np.array(image.convert("L")) > 0
    except DataError:
        raise
    except Exception:  # noqa: BLE001  # damaged files raise nearly anything
        raise misdrawn(where, "its mask cannot be read") from None
    part = part[max(0, -top) :, max(0, -left) :]
    top, left = max(0, top), max(0, left)
    part = part[: max(0, size[0] - top), : max(0, size[1] - left)]
    region[top : top + part.shape[0], left : left + part.shape[1]] = part
    return region
