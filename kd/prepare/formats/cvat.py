"""CVAT's masks: `SegmentationClass` and `labelmap.txt`, with lists of splits in `ImageSets`."""

from kd.prepare.formats import masks
from kd.prepare.formats.export import Found, Source


def read(source: Source) -> Found | None:
    """The pairs of an export as "Segmentation mask 1.1"; the masks of its instances are left out."""
    names = source.marks.names
    if "labelmap.txt" not in names or not any(name.startswith("SegmentationClass/") for name in names):
        return None
    if source.images.root == source.marks.root:
        tree = source.marks._replace(names=tuple(name for name in names if not name.startswith("SegmentationObject/")))
        source = source._replace(images=tree, marks=tree)
    else:
        kept = tuple(name for name in names if name.startswith("SegmentationClass/"))
        source = source._replace(marks=source.marks._replace(names=kept))
    found = masks.read(source._replace(classes=source.classes or source.file("labelmap.txt")))
    return None if found is None else found._replace(what=f"CVAT {found.what}")
