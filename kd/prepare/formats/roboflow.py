"""Roboflow's masks: `a_mask.png` beside `a.jpg`, with `_classes.csv` in each split."""

from kd.prepare.formats import masks
from kd.prepare.formats.export import Found, Source


def read(source: Source) -> Found | None:
    """The pairs of an export as "semantic segmentation masks"."""
    maps = [name for name in source.marks.names if name.rpartition("/")[2] == "_classes.csv"]
    if not maps:
        return None
    found = masks.read(source._replace(classes=source.classes or source.file(maps[0])))
    return None if found is None else found._replace(what=f"Roboflow {found.what}")
