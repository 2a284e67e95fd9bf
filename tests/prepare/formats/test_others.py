"""Annotations that kd does not read are named, with the export to choose."""

from pathlib import Path

import exports
import pytest
from command import kd

CASES = {
    "annotations.xml": (
        '<?xml version="1.0"?>\n<annotations>\n<image id="0" name="a.jpg"><polygon points="1,2;3,4"/></image>',
        'CVAT\'s XML; export "Segmentation mask 1.1" or "COCO 1.0" from CVAT',
    ),
    "plot0.xml": (
        "<annotation><object><name>leaf</name><bndbox><xmin>1</xmin></bndbox></object></annotation>",
        'boxes of Pascal VOC, no outlines; export segmentations, such as "COCO" or "Segmentation mask"',
    ),
    "via_region_data.json": (
        '{"plot0.jpg1": {"filename": "plot0.jpg", "regions": [{"shape_attributes": {"name": "polygon"}}]}}',
        "annotations of the VGG Image Annotator; export them as COCO",
    ),
    "via_export.csv": (
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n",
        "annotations of the VGG Image Annotator; export them as COCO",
    ),
    "plot0.jpg.json": (
        '{"size": {}, "objects": [{"classTitle": "leaf", "points": {"exterior": [[1, 2]]}}]}',
        "annotations of Supervisely; export masks, and give kd init the folders img and masks_machine",
    ),
    "panoptic.json": (
        '{"images": [{"id": 1, "file_name": "plot0.jpg"}], "categories": [], '
        '"annotations": [{"image_id": 1, "segments_info": []}]}',
        "panoptic COCO; give kd init the file of the instances, or masks of one number a class",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_message_names_the_file_and_the_export(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, message = CASES[name]
    exports.write_photos(Path("export"))
    Path("export", name).write_text(text)
    assert kd("init", "export") == 3
    assert capsys.readouterr().err == f"export/{name}: {message}\n"


def test_one_pair_is_too_few(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("images", "masks"):
        Path("export", kind).mkdir(parents=True)
    exports.photo(0).save("export/images/a.png")
    exports.photo(0).convert("P", colors=4).save("export/masks/a.png")
    assert kd("init", "export") == 3
    assert capsys.readouterr().err == (
        "export: 1 labelled image; add another one: one is needed to train and one to validate\n"
    )
