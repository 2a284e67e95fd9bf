"""COCO JSON: polygons, and run lengths, compressed or not."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from kd.errors import DataError
from kd.prepare.files import Images, split_of
from kd.prepare.formats.checked_json import Record, peek, read_json
from kd.prepare.formats.draw import Region, Shape, area_of, fill, paint, run_lengths, unpacked
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
from kd.prepare.formats.faults import boxes_only, damaged


class _Image(Record):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Runs(Record):
    size: tuple[int, int]  # (H, W)
    counts: str | list[int]


# as an array at once: a list of Python's numbers takes four times the memory
_Outline = Annotated[list[float], AfterValidator(lambda numbers: np.array(numbers, np.float64))]


class _Annotation(Record):
    image_id: int | str
    category_id: int | str
    segmentation: list[_Outline] | _Runs | None = None
    iscrowd: int = 0


class _Category(Record):
    id: int | str
    name: str
    supercategory: str | None = None


class _File(Record):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read(source: Source) -> Export | None:
    """The images of all COCO files in the export; one without annotations is background."""
    files = [name for name in source.marks.named(".json") if _is_coco(source.file(name))]
    if not files:
        return None
    images = Images(source.images)
    contents = {name: read_json(source.file(name), _File) for name in files}
    used = {annotation.category_id for content in contents.values() for annotation in content.annotations}
    labels = [
        category.name
        for content in contents.values()
        for category in sorted(content.categories, key=lambda category: str(category.id).zfill(20))
        if category.id in used or category.supercategory not in (None, "none")
    ]
    names = chosen_names(source, labels, str(source.file(files[0])))
    by_area = source.overlap != "order"
    items: dict[str, Item] = {}
    notes = _Notes()
    for file, content in contents.items():
        where = str(source.file(file))
        for item in _items(content, where, file, images, names, partial(_paint, by_area, source.holes), notes):
            if item.name in items:
                raise DataError(f"{where}: {item.image} is annotated in another file too; keep one of the two")
            items[item.name] = item
    if not notes.outlines:
        raise boxes_only(str(source.file(files[0])))
    what = f"COCO JSON, {len(files)} file{'s' if len(files) > 1 else ''}, {notes.outlines} objects"
    order = "the smaller object is on top" if by_area else "the later annotation is on top"
    lines = [f"overlaps: {order}", *notes.lines(), *without_annotation(images, items.values())]
    return Export(what, list(items.values()), {"classes": list(names.names)}, lines)


class _Notes:
    """What was found in all files that the user should know."""

    def __init__(self) -> None:
        self.outlines = self.crowds = self.boxes = self.short = 0
        self.first_short = ""

    def lines(self) -> list[str]:
        """Lines for the user."""
        found = []
        if self.crowds:
            found.append(f"{self.crowds} crowds (iscrowd) are ignored, below all objects")
        if self.boxes:
            found.append(f"warning: left out: {self.boxes} annotations with a box and no outline")
        if self.short:
            what = "polygons of fewer than 3 points enclose nothing"
            found.append(f"warning: {self.short} {what}, the first in {self.first_short}")
        return found


def _is_coco(path: Path) -> bool:
    text = peek(path)
    return any(key in text for key in (b'"file_name"', b'"image_id"')) and any(
        key in text for key in (b'"categories"', b'"category_id"')
    )


def _items(
    content: _File,
    where: str,
    file: str,
    images: Images,
    names: Names,
    draw: Callable[[list[_Annotation], tuple[int, int], Mapping[int | str, int], str], Mask],
    notes: _Notes,
) -> list[Item]:
    label_of = {
        category.id: names.label_of[category.name] for category in content.categories if category.name in names.label_of
    }
    known = {image.id for image in content.images}
    marks: dict[int | str, list[_Annotation]] = defaultdict(list)
    for number, annotation in enumerate(content.annotations):
        place = f"{where}: annotations[{number}]"
        if annotation.image_id not in known:
            raise damaged(place, f"no image has the id {annotation.image_id}")
        if annotation.category_id not in label_of:
            raise damaged(place, f"no category has the id {annotation.category_id}")
        if not annotation.segmentation:
            notes.boxes += 1
            continue
        notes.outlines += 1
        notes.crowds += annotation.iscrowd == 1
        _check(annotation, place, notes)
        marks[annotation.image_id].append(annotation)
    items = []
    for image in content.images:
        name = find_image(images, image.file_name, file, where)
        stated = (image.height, image.width) if image.height and image.width else None
        path = images.path(name)
        size = sized_header(path, stated, where)
        mask = partial(draw, marks.get(image.id, []), size, label_of, f"{where}: {image.file_name[-80:]}")
        items.append(Item(path, name, split_of(file) or split_of(name), mask))
    return items


def _check(annotation: _Annotation, place: str, notes: _Notes) -> None:
    if not isinstance(annotation.segmentation, list):
        return
    for polygon in annotation.segmentation:
        if len(polygon) % 2:
            raise damaged(place, f"a polygon of {len(polygon)} numbers, which are no pairs x, y")
        if len(polygon) < 6:
            notes.short += 1
            notes.first_short = notes.first_short or place


def _paint(
    by_area: bool,
    holes: bool,
    annotations: Sequence[_Annotation],
    size: tuple[int, int],
    label_of: Mapping[int | str, int],
    where: str,
) -> Mask:
    shapes = [_shape(annotation, size, label_of[annotation.category_id], where, holes) for annotation in annotations]
    return paint(shapes, size, by_area=by_area)


def _shape(annotation: _Annotation, size: tuple[int, int], label: int, where: str, holes: bool) -> Shape:
    found = annotation.segmentation
    crowd = annotation.iscrowd == 1
    if isinstance(found, list):
        polygons: list[NDArray[np.float64]] = [np.array(points, np.float64).reshape(-1, 2) for points in found]
        return Shape(label, area_of(polygons), partial(fill, polygons, size, where, holes=holes), crowd)
    assert found is not None
    if tuple(found.size) != size:
        raise DataError(f"{where}: run lengths of {found.size}, but the image is {size} (height, width)")
    counts = unpacked(found.counts, where) if isinstance(found.counts, str) else found.counts
    area = math.fsum(counts[1::2])

    def region() -> Region:
        return run_lengths(counts, size, where)

    return Shape(label, area, region, crowd)
