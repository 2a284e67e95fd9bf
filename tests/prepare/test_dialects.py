"""The same export as other tools, versions and settings write it: the masks stay those drawn by hand."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import exports
import numpy as np
import pytest
from command import kd
from PIL import Image

COCO, TASKS = Path("export/annotations/instances.json"), Path("export/project.json")


def rewritten(file: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def coco(change: Callable[[Any], object]) -> Callable[[], None]:
    return lambda: (exports.coco(Path("export")), rewritten(COCO, change))[0]


def numbers_in_other_forms(content: Any) -> None:
    for image, annotation in zip(content["images"], content["annotations"], strict=False):
        image |= {"width": float(exports.WIDTH), "height": str(exports.HEIGHT)}
        annotation["iscrowd"] = False


def brushed(content: Any) -> None:
    """CVAT: `occluded` in all annotations, and a brush's are crowds of run lengths."""
    for annotation in content["annotations"]:
        annotation["attributes"] = {"occluded": False}
        annotation["iscrowd"] = int(isinstance(annotation["segmentation"], dict))


def all_crowds(content: Any) -> None:
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


def renamed(change: Callable[[str], str]) -> Callable[[Any], None]:
    def apply(content: Any) -> None:
        for image in content["images"]:
            image["file_name"] = change(image["file_name"])

    return apply


def tasks(image: Callable[[int], str]) -> Callable[[], None]:
    def change(content: Any) -> None:
        for number, task in enumerate(content):
            task["data"]["image"] = image(number)

    return lambda: (exports.label_studio(Path("export")), rewritten(TASKS, change))[0]


def labels_of_their_own(content: Any) -> None:
    """`<Labels>` beside `<Brush>` and `<Polygon>`: each region is two results, of which one has the label."""
    for task in content:
        results = task["annotations"][0]["result"]
        for number, result in enumerate(tuple(results)):
            kind = result["type"].removesuffix("labels")
            label = result["value"].pop(result["type"])
            result |= {"id": f"r{number}", "type": kind}
            results.append(result | {"type": "labels", "value": result["value"] | {"labels": label}})


def pngs_by_an_address() -> None:
    exports.label_studio(Path("export"))
    rewritten(TASKS, lambda content: [task.update(annotations=[]) for task in content])
    for number in range(exports.COUNT):
        for index, label in ((1, "leaf"), (2, "stem")):
            white = Image.fromarray(((exports.by_hand(number) == index) * 255).astype(np.uint8))
            white.save(f"export/task-{70 + number}-annotation-4-by-me@mail.org-brush-{label}-0.png")


def labelme(change: Callable[[Any], object]) -> Callable[[], None]:
    def write() -> None:
        exports.labelme(Path("export"))
        for number in range(exports.COUNT):
            rewritten(Path(f"export/{exports.name(number)}.json"), change)

    return write


def long_values(content: Any) -> None:
    """More than 64 kB of points, and then of the image itself."""
    for shape in content["shapes"][:1]:
        shape["points"] = [point for point in shape["points"] for _ in range(1000)]
    content["imageData"] = base64.b64encode(bytes(100_000)).decode()
    for key in ("imageHeight", "imageWidth"):
        content[key] = content.pop(key)


def four_corners(content: Any) -> None:
    """X-AnyLabeling: rectangles by their corners; a rotation is a turned one."""
    for shape, kind in zip(content["shapes"][1:], ("rectangle",), strict=False):
        (left, top), (right, bottom) = shape["points"]
        shape |= {"shape_type": kind, "points": [[left, top], [right, top], [right, bottom], [left, bottom]]}


def turned_rectangles(content: Any) -> None:
    four_corners(content)
    for shape in content["shapes"][1:]:
        shape["shape_type"] = "rotation"


DIALECTS: dict[str, Callable[[], None]] = {
    "coco with 64.0, text and false for integers": coco(numbers_in_other_forms),
    "coco of CVAT's brush": coco(brushed),
    "coco in which all objects are crowds": coco(all_crowds),
    "coco with other capitals": coco(renamed(str.upper)),
    "coco with URLs": coco(renamed(lambda name: f"https://host/set/{quote(name)}")),
    "coco of Label Studio, with photos of one's own": coco(renamed(lambda name: f"images/1a2b3c4d-{name}")),
    "labelme of long values": labelme(long_values),
    "rectangles of four corners": labelme(four_corners),
    "turned rectangles": labelme(turned_rectangles),
    "tasks of encoded uploads": tasks(lambda n: f"/data/upload/2/1a2b3c4d-{quote(exports.name(n))}.jpg"),
    "tasks of a local folder": tasks(
        lambda n: f"/data/local-files/?d={quote(f'sets/a/{exports.name(n)}.jpg', safe='')}"
    ),
    "tasks of signed URLs": tasks(lambda n: f"https://b.host/{quote(exports.name(n))}.jpg?sign=ab/c%3D="),
    "labels apart from brush and polygons": lambda: (
        exports.label_studio(Path("export")),
        rewritten(TASKS, labels_of_their_own),
    )[0],
    "PNG files by an address": pngs_by_an_address,
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_masks_equal_those_drawn_by_hand(dialect: str, folder: Path) -> None:
    DIALECTS[dialect]()
    assert kd("init", "export") == 0
    for number in range(exports.COUNT):
        (file,) = Path("export-kd/masks").rglob(f"{exports.name(number)}.png")
        np.testing.assert_array_equal(np.array(Image.open(file)), exports.by_hand(number), err_msg=exports.name(number))


def test_each_region_that_is_not_drawn_counts_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DIALECTS["labels apart from brush and polygons"]()
    box = {"id": "b", "type": "rectangle", "value": {"x": 1, "y": 1, "width": 9, "height": 9}}
    both = [box, box | {"type": "labels", "value": box["value"] | {"labels": ["leaf"]}}]
    rewritten(TASKS, lambda content: content[0]["annotations"][0]["result"].extend(both))
    assert kd("init", "export") == 0
    assert "warning: left out: 1 result, neither strokes nor polygons\n" in capsys.readouterr().out
    rewritten(TASKS, lambda content: [task["annotations"][0].update(result=both) for task in content])
    assert kd("init", "export", "--out", "boxes") == 3
    assert capsys.readouterr().err == (
        "export/project.json: 5 results (rectangle), neither strokes nor polygons; draw objects with a brush or as "
        "polygons\n"
    )


def test_what_cvat_s_brush_drew_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DIALECTS["coco of CVAT's brush"]()
    assert kd("init", "export") == 0
    out = capsys.readouterr().out
    assert "drawn: 2 objects marked iscrowd, as CVAT marks what its brush drew\n" in out
    assert not re.search("^ignored", out, re.M)


def test_images_of_one_name_are_told_apart_by_the_folders_of_a_url(folder: Path) -> None:
    exports.label_studio(Path("export"))
    for number in range(exports.COUNT):
        target = Path(f"export/photos/field {number}/1.jpg")
        target.parent.mkdir()
        Path(f"export/photos/{exports.name(number)}.jpg").rename(target)

    def change(content: Any) -> None:
        for number, task in enumerate(content):
            task["data"]["image"] = f"s3://bucket/field%20{number}/1.jpg"

    rewritten(TASKS, change)
    assert kd("init", "export") == 0
    for number in range(exports.COUNT):
        (file,) = Path("export-kd/masks").rglob(f"*field {number}__1.png")
        np.testing.assert_array_equal(np.array(Image.open(file)), exports.by_hand(number))
