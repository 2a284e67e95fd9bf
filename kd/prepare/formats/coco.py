"""COCO JSON: polygons, and run lengths, compressed or not."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.errors import DataError, shown
from kd.prepare.faults import annotated_twice, boxes_only, damaged
from kd.prepare.files import Images, split_of
from kd.prepare.formats.checked_json import Element, Elements, Record, peek
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
from kd.units import counted


class _Image(Record):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Runs(Record):
    size: tuple[int, int]  # (H, W)
    counts: str | list[int]


class _Annotation(Record):
    image_id: int | str
    category_id: int | str
    segmentation: list[list[float]] | _Runs | None = None
    iscrowd: int = 0
    attributes: dict[str, Any] | None = None  # CVAT's, with `occluded`

    @property
    def brushed(self) -> bool:
        """Whether CVAT's brush drew it: CVAT marks each mask as a crowd."""
        return self.iscrowd == 1 and "occluded" in (self.attributes or {})


class _Category(Record):
    id: int | str
    name: str
    supercategory: str | None = None


class _Mark(NamedTuple):
    """An annotation whose outline is in the text, where it is parsed again when it is drawn."""

    element: Element
    image_id: int | str
    category_id: int | str


class _File:
    """The content of a file.

    Args:
        path: the file.
        notes: what is found in it is counted there.
    """

    def __init__(self, path: Path, notes: "_Notes") -> None:
        self.where = str(path)
        self.elements = Elements(path, ("images", "annotations", "categories"))
        self.images: list[_Image] = []
        self.categories: list[_Category] = []
        self.marks: list[_Mark] = []
        self.has_crowds = True  # False: what is marked as a crowd is an object
        for element in self.elements:
            if element.key == "images":
                self.images.append(self.elements.parse(element, _Image))
            elif element.key == "categories":
                self.categories.append(self.elements.parse(element, _Category))
            else:
                annotation = self.elements.parse(element, _Annotation)
                notes.count(annotation, self.elements.place(element))
                self.marks.append(_Mark(element, annotation.image_id, annotation.category_id))
        _refuse_repeated(f"{self.where}: images", [image.id for image in self.images])
        _refuse_repeated(f"{self.where}: categories", [category.id for category in self.categories])

    def annotation(self, mark: _Mark) -> _Annotation:
        """An annotation with its outline."""
        return self.elements.parse(mark.element, _Annotation)

    def is_crowd(self, annotation: _Annotation) -> bool:
        """Whether an annotation means pixels that are left out."""
        return self.has_crowds and annotation.iscrowd == 1 and not annotation.brushed


def read(source: Source) -> Export | None:
    """The images of all COCO files in the export; one without annotations is background."""
    files = [name for name in source.marks.named(".json") if _is_coco(source.file(name))]
    if not files:
        return None
    images = Images(source.images)
    notes = _Notes()
    contents = {name: _File(source.file(name), notes) for name in files}
    for content in contents.values():
        content.has_crowds = notes.has_crowds
    used = {mark.category_id for content in contents.values() for mark in content.marks}
    labels = [
        category.name
        for content in contents.values()
        for category in sorted(content.categories, key=lambda category: str(category.id).zfill(20))
        if category.id in used or category.supercategory not in (None, "none")
    ]
    names = chosen_names(source, labels, str(source.file(files[0])))
    by_area = source.overlap != "order"
    items: dict[str, Item] = {}
    file_of: dict[str, str] = {}  # of an image
    for file, content in contents.items():
        own: dict[str, Item] = {}
        for item in _items(content, file, images, names, by_area, source.holes):
            if item.name in own:
                raise damaged(content.where, f"{item.image} is listed twice")
            if item.name in items:
                raise annotated_twice(content.where, item.name, file_of[item.name])
            own[item.name], file_of[item.name] = item, content.where
        items |= own
    if not notes.outlines:
        raise boxes_only(str(source.file(files[0])))
    what = f"COCO JSON, {counted(len(files), 'file')}, {counted(notes.outlines, 'object')}"
    order = "the smaller object is on top" if by_area else "the later annotation is on top"
    lines = [f"overlaps: {order}", *notes.lines(), *without_annotation(images, items.values())]
    return Export(what, list(items.values()), {"classes": list(names.names)}, lines)


def _refuse_repeated(where: str, ids: Sequence[int | str]) -> None:
    """Refuse an id that stands for two elements."""
    first: dict[int | str, int] = {}
    for number, each in enumerate(ids):
        if first.setdefault(each, number) != number:
            raise damaged(f"{where}[{number}]", f"its id {shown(each)} is that of [{first[each]}] too")


class _Notes:
    """What was found in all files that the user should know."""

    def __init__(self) -> None:
        self.outlines = self.crowds = self.brushed = self.boxes = self.short = 0
        self.first_short = ""

    @property
    def has_crowds(self) -> bool:
        """Whether only some outlines are marked iscrowd; where all are, the mark means nothing."""
        return self.crowds + self.brushed < self.outlines

    def count(self, annotation: _Annotation, place: str) -> None:
        """Count an annotation.

        Raises:
            DataError: a polygon has half a point.
        """
        if not annotation.segmentation:
            self.boxes += 1
            return
        self.outlines += 1
        self.brushed += annotation.brushed
        self.crowds += annotation.iscrowd == 1 and not annotation.brushed
        for polygon in annotation.segmentation if isinstance(annotation.segmentation, list) else []:
            if len(polygon) % 2:
                raise damaged(place, f"a polygon of {len(polygon)} numbers, which are no pairs x, y")
            if len(polygon) < 6:
                self.short += 1
                self.first_short = self.first_short or place

    def lines(self) -> list[str]:
        """Lines for the user."""
        found = []
        drawn = self.brushed + (0 if self.has_crowds else self.crowds)
        if drawn:
            found.append(f"drawn: {counted(drawn, 'object')} marked iscrowd, as CVAT marks what its brush drew")
        if self.crowds and self.has_crowds:
            found.append(f"ignored, below all objects: {counted(self.crowds, 'crowd')} (iscrowd)")
        if self.boxes:
            found.append(f"warning: left out: {counted(self.boxes, 'annotation')} with a box and no outline")
        if self.short:
            what = f"{counted(self.short, 'polygon')} of fewer than 3 points"
            found.append(f"warning: not drawn: {what}, the first in {self.first_short}")
        return found


def _is_coco(path: Path) -> bool:
    text = peek(path)
    return (
        any(key in text for key in (b'"file_name"', b'"image_id"'))
        and any(key in text for key in (b'"categories"', b'"category_id"'))
        and b'"segments_info"' not in text
    )


def _items(content: _File, file: str, images: Images, names: Names, by_area: bool, holes: bool) -> list[Item]:
    label_of = {
        category.id: names.label_of[category.name] for category in content.categories if category.name in names.label_of
    }
    known = {image.id for image in content.images}
    marks: dict[int | str, list[_Mark]] = defaultdict(list)
    for mark in content.marks:
        place = content.elements.place(mark.element)
        if mark.image_id not in known:
            raise damaged(place, f"no image has the id {shown(mark.image_id)}")
        if mark.category_id not in label_of:
            raise damaged(place, f"no category has the id {shown(mark.category_id)}")
        marks[mark.image_id].append(mark)
    items = []
    for image in content.images:
        name = find_image(images, image.file_name, file, content.where)
        stated = (image.height, image.width) if image.height and image.width else None
        path = images.path(name)
        size = sized_header(path, stated, content.where)
        where = f"{content.where}: {image.file_name[-80:]}"
        mask = partial(_paint, content, marks.get(image.id, []), size, label_of, where, by_area, holes)
        items.append(Item(path, name, split_of(file) or split_of(name), mask))
    return items


def _paint(
    content: _File,
    marks: Sequence[_Mark],
    size: tuple[int, int],
    label_of: Mapping[int | str, int],
    where: str,
    by_area: bool,
    holes: bool,
) -> Mask:
    annotations = [annotation for annotation in map(content.annotation, marks) if annotation.segmentation]
    shapes = [
        _shape(annotation, size, label_of[annotation.category_id], where, holes, content.is_crowd(annotation))
        for annotation in annotations
    ]
    return paint(shapes, size, by_area=by_area)


def _shape(annotation: _Annotation, size: tuple[int, int], label: int, where: str, holes: bool, crowd: bool) -> Shape:
    found = annotation.segmentation
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
