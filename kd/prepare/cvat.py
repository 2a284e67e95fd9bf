"""CVAT's masks: `SegmentationClass`, `labelmap.txt`, and lists of splits in `ImageSets`."""

from kd.prepare import masks
from kd.prepare.export import Found, Ready, Source

_LISTS = "ImageSets/Segmentation/{split}.txt"


def read(source: Source) -> Found | None:
    """The pairs of an export as "Segmentation mask 1.1"; its lists are taken if they name train and val."""
    names = source.marks.names
    kept = tuple(name for name in names if not name.startswith("SegmentationObject/"))
    if "labelmap.txt" not in names or not any(name.startswith("SegmentationClass/") for name in names):
        return None
    marks = source.marks._replace(names=kept)
    if source.images.root == source.marks.root:
        source = source._replace(images=marks)
    else:
        marks = marks._replace(names=tuple(name for name in kept if name.startswith("SegmentationClass/")))
    found = masks.read(source._replace(marks=marks, classes=source.classes or source.file("labelmap.txt")))
    if found is None:
        return None
    found = found._replace(what=f"CVAT {found.what}")
    has_lists = all(_LISTS.replace("{split}", split) in names for split in ("train", "val"))
    if isinstance(found, Ready) and has_lists and found.args["root"] == source.marks.root.as_posix():
        args = {name: value for name, value in found.args.items() if name != "val"}
        return found._replace(args={**args, "lists": _LISTS})
    return found
