"""A black-and-white file for each class of an image: `leaf/7.png`, or `7_leaf.png`."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from kd.data.images.decode import read_header, size_text
from kd.data.images.read import read_mask
from kd.data.masks.encoding import shades
from kd.prepare.faults import damaged
from kd.prepare.files import split_of
from kd.prepare.formats.draw import Region, Shape, paint
from kd.prepare.formats.export import Export, Item, Mask, Names, Source, chosen_names, sized_header
from kd.prepare.formats.pairs import by_class, sides
from kd.units import counted

_LOOKED_AT = 20  # files, to tell masks of one class from those of all
_WHITE = 128  # shades from this one up are white
_BETWEEN = slice(32, 224)  # the shades of soft edges


def read(source: Source) -> Export | None:
    """The images of which at least one file holds a class."""
    found = sides(source)
    files = by_class(*found) if found else None
    if found is None or not files:
        return None
    listed = [source.file(name) for classes in files.values() for name in classes.values()]
    if not _are_binary(listed[:_LOOKED_AT]):
        return None
    names = chosen_names(
        source, sorted({label for classes in files.values() for label in classes}), str(source.marks.root)
    )
    by_area = source.overlap == "area"
    items = []
    for name, classes in files.items():
        path = source.images.root / name
        size = sized_header(path, None, str(path))
        mask = partial(
            _paint, {label: source.file(name) for label, name in sorted(classes.items())}, size, names, by_area
        )
        items.append(Item(path, name, split_of(name), mask))
    top = "the smaller class" if by_area else "the class that comes later by name"
    alone = len(found[0]) - len(files)
    notes = [f"overlaps: {top} is on top", "what no file marks is background"]
    notes += [f"warning: left out: {counted(alone, 'image')} without a mask"] if alone else []
    what = f"a mask for each class, {counted(len(listed), 'file')}"
    return Export(what, items, {"classes": list(names.names)}, notes)


def _are_binary(paths: Sequence[Path]) -> bool:
    """Whether masks are black and white, or 0 and 1; masks of several small numbers are as dark as black."""
    held = np.zeros(256, dtype=np.int64)
    hard, lossy = True, False
    for path in paths:
        header = read_header(path)
        if header.mode not in ("1", "L", "P", "RGB"):
            return False
        counts = np.bincount(shades(read_mask(path)).ravel(), minlength=256)
        brightest = counts.nonzero()[0][-1]
        if brightest > 1 and counts[_BETWEEN].sum() >= 0.1 * counts.sum():
            return False
        hard &= (counts > 0).sum() <= 2 and not 1 < brightest < _WHITE
        lossy |= bool(header.lossy)
        held += counts
    return bool(hard or lossy or (held[_WHITE:].any() and held[_BETWEEN].any()))


def _paint(files: Mapping[str, Path], size: tuple[int, int], names: Names, by_area: bool) -> Mask:
    shapes = []
    for label, file in files.items():
        region = _region(file, size)
        shapes.append(Shape(names.label_of[label], float(region.sum()), partial(np.asarray, region)))
    return paint(shapes, size, by_area=by_area)


def _region(file: Path, size: tuple[int, int]) -> Region:
    shown = shades(read_mask(file))
    if shown.shape != size:
        raise damaged(str(file), f"{size_text(shown.shape)}, but its image is {size_text(size)}")
    return np.asarray(shown > 0 if shown.max(initial=0) <= 1 else shown >= _WHITE)
