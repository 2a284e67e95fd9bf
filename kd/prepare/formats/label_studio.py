"""Label Studio: brush strokes and polygons in its JSON, or a PNG for each label with the JSON that names the images."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from kd.data.images.decode import size_text
from kd.data.images.read import read_mask
from kd.errors import DataError
from kd.prepare.faults import damaged, no_image
from kd.prepare.files import Images, split_of
from kd.prepare.formats.checked_json import Elements, Record, peek
from kd.prepare.formats.draw import Region, Shape, area_of, fill, paint
from kd.prepare.formats.export import Export, Item, Mask, Names, Source, chosen_names, sized_header, without_annotation
from kd.units import counted

PNG = re.compile(r"task-(\d+)-annotation-(\d+)-by-[\w.@]*-[^-]+-(.+)-\d+\.png")  # by a number or an address


class _Value(Record):
    format: str | None = None
    rle: list[int] | None = None
    points: list[tuple[float, float]] | None = None  # in percent of width and height
    brushlabels: list[str] | None = None
    polygonlabels: list[str] | None = None
    labels: list[str] | None = None  # of <Labels> beside <Brush> or <Polygon>


class _Result(Record):
    """A part of a region: of `<Labels>` beside `<Polygon>`, the outline and the same with its label have one id."""

    id: str | int | None = None
    type: str
    value: _Value = _Value()
    original_width: int | None = None
    original_height: int | None = None


class _Annotation(Record):
    result: list[_Result] = Field(default_factory=list)
    was_cancelled: bool = False


class _Task(Record):
    id: int
    data: dict[str, Any] = Field(default_factory=dict)
    image: str | None = None  # of the short form, JSON-MIN, which gives each control of the labelling page a key
    annotation_id: int | None = None  # of the short form
    annotations: list[_Annotation] = Field(default_factory=list)


class _Object:
    """An object of an annotation."""

    def __init__(self, label: str, value: _Value, size: tuple[int, int] | None, where: str) -> None:
        self.label, self.value, self.size, self.where = label, value, size, where


def read(source: Source) -> Export | None:
    """The images of an export, those of tasks with an annotation."""
    pngs = [name for name in source.marks.names if PNG.fullmatch(name.rpartition("/")[2])]
    files = [name for name in source.marks.named(".json") if _is_label_studio(source.file(name))]
    if not files and not pngs:
        return None
    if not files:
        raise DataError(
            f"{source.file(pngs[0])}: no file names the images of the tasks; export JSON too, and put its file into "
            f"{source.marks.root}"
        )
    images = Images(source.images, [name for name in Images(source.images).names if name not in set(pngs)])
    found: dict[int, tuple[str, list[_Object]]] = {}
    task_of: dict[str, int] = {}  # of an image
    several = 0
    others: list[str] = []  # the types of the regions that cannot be drawn
    for file in files:
        elements = Elements(source.file(file))
        for task in (elements.parse(element, _Task) for element in elements):
            where = f"{source.file(file)}: task {task.id}"
            if task.annotation_id is not None and not pngs:
                raise DataError(f"{where}: no list of annotations, as in JSON-MIN; export it as JSON")
            kept = [annotation for annotation in task.annotations if not annotation.was_cancelled]
            several += len(kept) > 1
            results = kept[0].result if kept else []
            made = [_objects(result, f"{where}: result[{number}]") for number, result in enumerate(results)]
            objects = [o for of_result in made for o in of_result]
            regions = [result.id or number for number, result in enumerate(results)]
            is_drawn = {region for region, of_result in zip(regions, made, strict=True) if of_result}
            kinds = zip(reversed(regions), reversed([result.type for result in results]), strict=True)
            others += [kind for region, kind in dict(kinds).items() if region not in is_drawn]
            if kept or pngs:
                if task.id in found:
                    raise damaged(where, "another task has this id")
                name = _image_of(task, images, where)
                if name in task_of:
                    raise DataError(f"{where}: {name} is annotated in task {task_of[name]} too; keep one of the two")
                found[task.id], task_of[name] = (name, objects), task.id
    drawn = _drawn(pngs, found, source) if pngs and not any(objects for _, objects in found.values()) else {}
    labels = [o.label for _, objects in found.values() for o in objects] + [
        label for p in drawn.values() for label, _ in p
    ]
    if others and not labels:
        held = f"{counted(len(others), 'result')} ({', '.join(sorted(set(others)))[:80]}), neither strokes nor polygons"
        raise DataError(f"{source.file(files[0])}: {held}; draw objects with a brush or as polygons")
    names = chosen_names(source, sorted(set(labels)), str(source.file(files[0])))
    by_area = source.overlap == "area"
    items = []
    for task_id, (name, objects) in found.items():
        path = images.path(name)
        where = f"{source.file(files[0])}: task {task_id}"
        size = sized_header(path, next((o.size for o in objects if o.size), None), where)
        mask = partial(_paint, objects, drawn.get(task_id, []), size, names, by_area, source.holes)
        items.append(Item(path, name, split_of(name), mask))
    notes = [f"overlaps: {'the smaller object' if by_area else 'the later one'} is on top"]
    if several:
        notes.append(f"warning: several annotations of {counted(several, 'task')}, of which the first counts")
    if others:
        notes.append(f"warning: left out: {counted(len(others), 'result')}, neither strokes nor polygons")
    notes += without_annotation(images, items)
    form = "a PNG a label" if drawn else counted(len(labels), "object")
    return Export(f"Label Studio, {counted(len(items), 'task')}, {form}", items, {"classes": list(names.names)}, notes)


def _is_label_studio(path: Path) -> bool:
    text = peek(path)
    keys = (b'"annotations"', b'"annotation_id"', b'"brushlabels"', b'"polygonlabels"', b'"data"')
    return text.lstrip()[:1] == b"[" and b'"id"' in text and any(key in text for key in keys)


def _image_of(task: _Task, images: Images, where: str) -> str:
    """The image of a task: the first text in its data that names one."""
    texts = [text for text in (task.image, *task.data.values()) if isinstance(text, str)]
    for text in texts:
        if found := images.find(text):
            return found
    raise no_image(where, texts[0] if texts else "", images)


def _objects(result: _Result, where: str) -> list[_Object]:
    value = result.value
    labels = value.brushlabels or value.polygonlabels or value.labels or []
    if not labels or not (value.rle or value.points):
        return []
    size = (result.original_height, result.original_width) if result.original_height and result.original_width else None
    return [_Object(labels[0], value, size, where)]


def _drawn(
    pngs: Sequence[str], tasks: Mapping[int, tuple[str, list[_Object]]], source: Source
) -> dict[int, list[tuple[str, Path]]]:
    """The PNG files of each task, with their labels, in the order of their names."""
    found: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    first: dict[int, str] = {}
    for name in pngs:
        match = PNG.fullmatch(name.rpartition("/")[2])
        assert match is not None
        task = int(match[1])
        if task not in tasks:
            raise damaged(str(source.file(name)), f"the JSON has no task {task}")
        if first.setdefault(task, match[2]) == match[2]:
            found[task].append((match[3], source.file(name)))
    return found


def _paint(
    objects: Sequence[_Object],
    files: Sequence[tuple[str, Path]],
    size: tuple[int, int],
    names: Names,
    by_area: bool,
    holes: bool,
) -> Mask:
    shapes = [_shape(item, size, names.label_of[item.label], holes) for item in objects]
    for label, file in files:
        region = _of_png(file, size)
        shapes.append(Shape(names.label_of[label], float(region.sum()), lambda region=region: region))  # type: ignore[misc]
    return paint(shapes, size, by_area=by_area)


def _shape(item: _Object, size: tuple[int, int], label: int, holes: bool) -> Shape:
    if item.value.points:
        outline = np.array(item.value.points, np.float64) * (np.array([size[1], size[0]]) / 100)
        return Shape(label, area_of([outline]), partial(fill, [outline], size, item.where, holes=holes))
    region = brush(item.value.rle or [], size, item.where)
    return Shape(label, float(region.sum()), lambda: region)


def _of_png(file: Path, size: tuple[int, int]) -> Region:
    values = read_mask(file).values
    if values.shape[:2] != size:
        raise damaged(str(file), f"{size_text(values.shape[:2])}, but its image is {size_text(size)}")
    return np.asarray(values.reshape(*size, -1).any(-1))


def brush(data: Sequence[int], size: tuple[int, int], where: str) -> Region:
    """Decode the strokes of a brush: RGBA run lengths in a stream of bits, of which alpha is the stroke.

    The stream: 32 bits, the number of values; 5 bits, the bits of a value less 1; four times 4 bits, the bits of a
    length less 1; then runs: 1 bit, whether one value is repeated; 2 bits, which of the four lengths; the length less
    1; and the value, or as many values as the length.

    Args:
        data: bytes.
        size: (H, W).
        where: the object, for the message.

    Raises:
        DataError: the data are damaged or of another size.
    """
    values_wanted = 4 * size[0] * size[1]
    if len(data) > 2 * values_wanted + 64 or not all(0 <= byte < 256 for byte in data):
        raise damaged(where, f"damaged strokes ({len(data)} numbers)")
    bits = np.unpackbits(np.array(data, dtype=np.uint8))
    at = 0

    def take(count: int) -> int:
        nonlocal at
        if at + count > len(bits):
            raise damaged(where, "damaged strokes (cut off)")
        at += count
        return int("".join(map(str, bits[at - count : at])), 2)

    total, width = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if total != values_wanted:
        raise damaged(where, f"strokes of {total} values, but the image has {values_wanted}")
    out = np.zeros(total, dtype=bool)
    filled = 0
    while filled < total:
        repeated = take(1)
        end = filled + 1 + take(lengths[take(2)])
        if end > total:
            raise damaged(where, "damaged strokes (too long)")
        if repeated:
            out[filled:end] = take(width) > 0
        else:
            count = (end - filled) * width
            if at + count > len(bits):
                raise damaged(where, "damaged strokes (cut off)")
            out[filled:end] = bits[at : at + count].reshape(-1, width).any(1)
            at += count
        filled = end
    return np.asarray(out.reshape(*size, 4)[..., 3])
