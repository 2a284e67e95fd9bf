"""What several formats refuse, in the same words."""

from kd.errors import DataError
from kd.prepare.files import Images
from kd.units import counted


def damaged(where: str, what: str) -> DataError:
    """Annotations that no tool writes: the file is damaged, or was changed by hand."""
    return DataError(f"{where}: {what}; export it again")


def misdrawn(where: str, what: str) -> DataError:
    """An object that its tool allows and that means nothing."""
    return DataError(f"{where}: {what}; correct it in the tool that drew it")


def too_few(where: str, images: int) -> DataError:
    """Fewer than two labelled images."""
    held = f"{counted(images, 'labelled image')}; add another one: one is needed to train and one to validate"
    return DataError(f"{where}: {held}")


def annotated_twice(where: str, image: str, other: str) -> DataError:
    """An image that two files annotate, such as the instances and the keypoints of COCO."""
    return DataError(f"{where}: {image} is annotated in {other} too; move one of the two files out of the export")


def boxes_only(where: str, what: str = "boxes only, no outlines") -> DataError:
    """An export for detection."""
    return DataError(f"{where}: {what}; export segmentations")


def no_image(where: str, name: str, images: Images) -> DataError:
    """An annotation whose image is not there; the name may be a stranger's path, so that only its end is shown."""
    last = name.replace("\\", "/").rpartition("/")[2][:80]
    held = f"no image named {last!r} in {images.tree.root} ({counted(len(images.names), 'image')})"
    return DataError(f"{where}: {held}; add it, or give kd init the folder of the images and then the annotations")
