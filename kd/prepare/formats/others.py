"""Annotations that kd does not read, recognised so that the message can name the export to choose."""

from pathlib import Path

from kd.errors import DataError
from kd.prepare.files import Tree
from kd.prepare.formats.checked_json import peek

_LOOKED_AT = 20  # files of a suffix
_OTHERS = {
    b"<bndbox": 'boxes of Pascal VOC, no outlines; export segmentations, such as "COCO" or "Segmentation mask"',
    b"<annotations": 'CVAT\'s XML; export "Segmentation mask 1.1" or "COCO 1.0" from CVAT',
    b'"shape_attributes"': "annotations of the VGG Image Annotator; export them as COCO",
    b"region_shape_attributes": "annotations of the VGG Image Annotator; export them as COCO",
    b'"classTitle"': "annotations of Supervisely; export masks, and give kd init the folders img and masks_machine",
    b'"segments_info"': "panoptic COCO; give kd init the file of the instances, or masks of one number a class",
}


def refuse_others(tree: Tree) -> None:
    """Refuse a tree whose annotations are of a form that kd does not read.

    Raises:
        DataError: they are.
    """
    for suffix in (".xml", ".json", ".csv"):
        for name in tree.named(suffix)[:_LOOKED_AT]:
            path: Path = tree.root / name
            text = peek(path)
            for mark, what in _OTHERS.items():
                if mark in text:
                    raise DataError(f"{path}: {what}")
