"""The formats that `kd init` knows, the most certain first."""

from collections.abc import Callable

from kd.errors import DataError
from kd.prepare.formats import binaries, coco, cvat, label_studio, labelme, masks, roboflow, yolo
from kd.prepare.formats.export import Found, Source
from kd.prepare.formats.others import refuse_others
from kd.units import counted

FORMATS: dict[str, Callable[[Source], Found | None]] = {
    "coco": coco.read,
    "labelme": labelme.read,
    "label-studio": label_studio.read,
    "cvat": cvat.read,
    "roboflow": roboflow.read,
    "yolo": yolo.read,
    "one-per-class": binaries.read,
    "masks": masks.read,
}


def find(source: Source, name: str | None = None) -> Found:
    """The images and labels of an export.

    Args:
        source: where it is.
        name: of its format; None: the first that it has the files of.

    Raises:
        DataError: it is of no known format, or damaged.
    """
    for read in [FORMATS[name]] if name else FORMATS.values():
        found = read(source)
        if found is not None:
            return found
    kinds: dict[str, int] = {}
    refuse_others(source.marks)
    trees = {source.images.root: source.images, source.marks.root: source.marks}
    for file in (name for tree in trees.values() for name in tree.names):
        kind = file.rpartition(".")[2].lower() if "." in file else "without a suffix"
        kinds[kind] = kinds.get(kind, 0) + 1
    held = (
        ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1])[:6])
        or "no files"
    )
    if links := sum(tree.left_out for tree in trees.values()):
        held += f", and {counted(links, 'link')} out of the folder"
    wanted = name or "images with annotations that kd knows"
    raise DataError(
        f"{source.marks.root}: no {wanted} found ({held}); give kd init the folder of the images and then that of the "
        f"annotations: {', '.join(FORMATS)}"
    )
