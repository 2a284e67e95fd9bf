"""YOLO's outlines: a text file for each image, an object a line, with coordinates as shares of width and height."""

import re
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd.data.images.decode import SUFFIXES
from kd.data.masks.class_files import file_rows
from kd.errors import DataError, RecipeError
from kd.files.reading import MAX_DATA, read_text
from kd.prepare.codes import is_background
from kd.prepare.faults import boxes_only, damaged, no_image
from kd.prepare.files import Images, split_of
from kd.prepare.formats.draw import Shape, area_of, fill, paint
from kd.prepare.formats.export import Export, Item, Mask, Source, class_names, sized_header
from kd.recipe import yaml12
from kd.units import counted

_LISTS = ("classes.txt", "obj.names", "names.txt", "labels.txt", "readme.txt", "train.txt", "val.txt", "test.txt")

_NAMES = re.compile(r"^names\s*:", re.MULTILINE)

Object = tuple[int, NDArray[np.float64]]  # class, outline (points, 2) as shares


def read(source: Source) -> Export | None:
    """The images of a YOLO export; one without a text file is background."""
    texts = [name for name in source.marks.named(".txt") if name.rpartition("/")[2].lower() not in _LISTS]
    texts = [
        name for name in texts if not name.rpartition("/")[2].lower().startswith(("readme", "license", "labelmap"))
    ]
    if 2 * sum(_looks_so(source.file(name)) for name in texts[:20]) <= len(texts[:20]):
        return None
    files = [name for name in source.images.named(*SUFFIXES) if "labels" not in name.split("/")[:-1]]
    images = Images(source.images, files)
    objects: dict[str, list[Object]] = {}
    boxes = 0
    for text in texts:
        folder, _, last = text.removesuffix(".txt").rpartition("/")
        name = images.find(f"{folder.replace('labels', 'images')}/{last}", text)
        if name is None and not _looks_so(source.file(text)):  # a list of images, or notes
            continue
        if name is None:
            raise no_image(str(source.file(text)), text.removesuffix(".txt"), images)
        objects[name], more = _objects(source.file(text))
        boxes += more
    if not any(objects.values()):
        held = "boxes only, no outlines" if boxes else "no object in any file"
        raise boxes_only(str(source.file(texts[0])), held)
    used = {label for found in objects.values() for label, _ in found}
    listed, where = _names(source, used)
    names = class_names([listed[number] for number in sorted(listed)], where)
    by_area = source.overlap != "order"
    labels = {number: names.label_of[name] for number, name in listed.items()}
    items = []
    for name in files:
        path = images.path(name)
        size = sized_header(path, None, name)
        mask = partial(_paint, objects.get(name, []), size, labels, by_area, str(path), source.holes)
        items.append(Item(path, name, split_of(name), mask))
    empty = len(files) - sum(map(bool, objects.values()))
    total = sum(map(len, objects.values()))
    notes = [f"overlaps: {'the smaller object' if by_area else 'the later line'} is on top"]
    notes += [f"background: {counted(empty, 'image')} without an object"] if empty else []
    notes += [
        f"warning: class {number} is called {listed[number]}: its objects are drawn as background"
        for number in sorted(used)
        if labels[number] == 0
    ]
    notes += [f"warning: left out: {counted(boxes, 'line')} with a box and no outline"] if boxes else []
    what = f"YOLO outlines, {counted(len(objects), 'file')}, {counted(total, 'object')}"
    return Export(what, items, {"classes": list(names.names)}, notes)


def _looks_so(path: Path) -> bool:
    """Whether the first line holds numbers alone; an empty file is an image without objects."""
    try:
        with path.open("rb") as file:
            words = file.readline(65_536).removeprefix(BOM_UTF8).split()
        return all(b"0" <= word[:1] <= b"9" or word[:1] in b"-." for word in words) and len(words) != 1
    except OSError:
        return False


def _objects(path: Path) -> tuple[list[Object], int]:
    """The objects of a file, and the number of boxes among its lines."""
    found: list[Object] = []
    boxes = 0
    for number, line in enumerate(read_text(path, "a list of outlines", DataError, limit=MAX_DATA).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, values = _integer(words[0]), np.array(words[1:], dtype=np.float64)
        except ValueError:
            raise damaged(f"{path}:{number}", f"expected a class and pairs x y, got '{line[:60]}'") from None
        if not 0 <= label <= 999 or not np.isfinite(values).all():
            raise damaged(f"{path}:{number}", f"class {label} or a coordinate is out of range")
        if len(values) == 4:
            boxes += 1
        elif len(values) % 2 or len(values) < 6:
            raise damaged(
                f"{path}:{number}", f"{len(values)} numbers after the class, which are no 3 pairs x y or more"
            )
        else:
            found.append((label, values.reshape(-1, 2)))
    return found, boxes


def _integer(word: str) -> int:
    """A class, which some tools write as 0.0."""
    number = float(word)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _names(source: Source, used: AbstractSet[int]) -> tuple[Mapping[int, str], str]:
    """The names of the classes by number, and the file that gives them; it must name those that the labels hold."""
    for file in [source.classes] if source.classes else _files_of_names(source):
        found = _of_class_map(file) if source.classes else _of_yolo(file)
        found = {number: name.strip() for number, name in found.items() if name.strip()}
        if not found:
            continue
        if missing := used - found.keys():
            raise DataError(
                f"{file}: {counted(len(found), 'name')}, but the labels hold class {max(missing)}; "
                "add the missing names"
            )
        return found, str(file)
    return {number: f"class {number}" for number in range(1 + max(used))}, str(source.marks.root)


def _of_class_map(file: Path) -> dict[int, str]:
    """The names in a class map that the user names: by the numbers that it states, or in order."""
    rows = file_rows(file)
    marks = [mark for _, found in rows for mark in found]
    if not marks and file.suffix.lower() == ".txt":
        return _of_yolo(file)  # an empty line has a number too
    numbers = {mark: name for name, found in rows for mark in found if isinstance(mark, int)}
    if len(numbers) == len(marks) == len(rows):
        return numbers
    if numbers or (marks and any(is_background(name) for name, _ in rows)):  # which no object of YOLO is
        raise DataError(
            f"{file}: nothing shows which class has which number in the labels; give the names alone, in the order of "
            "the numbers, or name,number"
        )
    return {number: name for number, (name, _) in enumerate(rows)}


def _of_yolo(file: Path) -> dict[int, str]:
    """The names in a file of YOLO: one a line, or in YAML a list or a mapping by number, or one of these as `names`."""
    text = read_text(file, "names of classes", DataError)
    if file.suffix.lower() not in (".yaml", ".yml"):
        return dict(enumerate(text.split("\n")))
    try:
        root = yaml12.compose(text, str(file))
    except RecipeError as error:
        raise DataError(error.mistakes) from None
    content = yaml12.plain(root)[0] if root is not None else None
    names = content.get("names") if isinstance(content, dict) else content
    if isinstance(names, list):
        return dict(enumerate(map(str, names)))
    if not isinstance(names, dict):
        return {}
    if not all(str(key).isdecimal() for key in names):
        raise DataError(f"{file}: names: a key is no number; write a list, in the order of the numbers")
    return {int(key): str(name) for key, name in names.items()}


def _files_of_names(source: Source) -> list[Path]:
    wanted = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names", "names.txt", "labels.txt")
    trees: Sequence[tuple[Path, Sequence[str]]] = [
        (source.marks.root, source.marks.names),
        (source.images.root, source.images.names),
    ]
    found = [root / name for root, names in trees for name in names if name.rpartition("/")[2].lower() in wanted]
    above = [folder / name for folder in source.above() for name in wanted if (folder / name).is_file()]
    others = [
        path
        for root, names in trees
        for path in (root / name for name in names if name.lower().endswith((".yaml", ".yml")))
        if path.name.lower() not in wanted and _NAMES.search(read_text(path, "names of classes", DataError))
    ]
    return sorted(found, key=lambda path: wanted.index(path.name.lower())) + above + others


def _paint(
    objects: Sequence[Object], size: tuple[int, int], labels: Mapping[int, int], by_area: bool, where: str, holes: bool
) -> Mask:
    scale = np.array([size[1], size[0]], dtype=np.float64)
    shapes = [
        Shape(labels[label], area_of([points * scale]), partial(fill, [points * scale], size, where, holes=holes))
        for label, points in objects
    ]
    return paint(shapes, size, by_area=by_area)
