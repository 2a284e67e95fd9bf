"""Damaged, wrong and hostile exports: one line that names the file, status 3, and nothing written."""

import base64
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exports
import numpy as np
import pytest
from command import kd
from PIL import Image

COCO, TASKS = Path("export/annotations/instances.json"), Path("export/project.json")
LABELME, YOLO = Path("export/plot1.json"), Path("export/labels/train/plot1.txt")


def changed(file: Path, change: Callable[[Any], object]) -> Callable[[], None]:
    """An export in which the JSON of a file is changed."""

    def write() -> None:
        form = {COCO: exports.coco, TASKS: exports.label_studio, LABELME: exports.labelme}[file]
        form(Path("export"))
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return write


def replaced(file: Path, content: str | bytes) -> Callable[[], None]:
    """An export in which a file has other content."""

    def write() -> None:
        form = {COCO: exports.coco, TASKS: exports.label_studio, LABELME: exports.labelme}.get(file, exports.yolo)
        form(Path("export"))
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def segmentation(number: int, value: object) -> Callable[[Any], None]:
    return lambda content: content["annotations"][number].update(segmentation=value)


def shape(number: int, **values: object) -> Callable[[Any], None]:
    return lambda content: content["shapes"][number].update(values)


def brush(value: list[int]) -> Callable[[Any], None]:
    return lambda tasks: tasks[1]["annotations"][0]["result"][0]["value"].update(rle=value)


def bomb(width: int, height: int) -> bytes:
    """A PNG that states a size and holds one pixel."""
    content = png(1, 1)
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), 255).save(file, "png")
    return file.getvalue()


NAMES = Path("export/data.yaml")
BOMB = base64.b64encode(bomb(60_000, 60_000)).decode()
PLACE = "export/annotations/instances.json"
SIZES = {"size": [48, 64]}
CASES: dict[str, tuple[Callable[[], None], str]] = {
    "a polygon that is no pairs": (
        changed(COCO, segmentation(0, [[1, 2, 3, 4, 5, 6, 7]])),
        f"{PLACE}: annotations[0]: a polygon of 7 numbers, which are no pairs x, y; export it again",
    ),
    "a coordinate that is not finite": (
        replaced(COCO, '{"images": [{"id": 1, "file_name": "a"}], "categories": [], "annotations": [{"image_id": 1, '
                       '"category_id": 1, "segmentation": [[NaN, 1, 2, 3, 4, 5]]}]}'),
        f"{PLACE}: annotations[0]: segmentation.0.0: nan is not a finite number; export it again",
    ),
    "a coordinate far away": (
        changed(COCO, segmentation(0, [[1, 1, 1e300, 1, 5, 5]])),
        f"{PLACE}: plot0.jpg: a coordinate beyond 10,000,000; correct it in the tool that drew it",
    ),
    "run lengths that overflow": (
        changed(COCO, segmentation(3, SIZES | {"counts": [0, 2**62, 2**62]})),
        f"{PLACE}: plot1.jpg: 3 run lengths of 9223372036854775808 pixels, but the image has 3072; export it again",
    ),
    "run lengths of characters that never end": (
        changed(COCO, segmentation(3, SIZES | {"counts": "o" * 1000})),
        f"{PLACE}: plot1.jpg: damaged run lengths (character 'o'); export it again",
    ),
    "run lengths of another size": (
        changed(COCO, segmentation(3, {"size": [10**6, 10**6], "counts": [10**12]})),
        f"{PLACE}: plot1.jpg: run lengths of (1000000, 1000000), but the image is (48, 64) (height, width)",
    ),
    "an annotation of no image": (
        changed(COCO, lambda content: content["annotations"][2].update(image_id=77)),
        f"{PLACE}: annotations[2]: no image has the id 77; export it again",
    ),
    "an annotation of no category": (
        changed(COCO, lambda content: content["annotations"][2].update(category_id=77)),
        f"{PLACE}: annotations[2]: no category has the id 77; export it again",
    ),
    "an image outside the folder": (
        changed(COCO, lambda content: content["images"][0].update(file_name="../../../etc/passwd")),
        f"{PLACE}: no image named 'passwd' in export (5 images); add it, or give kd init the folder of the images and "
        "then the annotations",
    ),
    "an image of another size": (
        changed(COCO, lambda content: content["images"][0].update(width=640)),
        f"{PLACE}: it states 640×48 for export/images/plot0.jpg, which is 64×48 (width × height); export it again",
    ),
    "boxes": (
        changed(COCO, lambda content: [a.pop("segmentation") for a in content["annotations"]]),
        f"{PLACE}: boxes only, no outlines; export segmentations",
    ),
    "a value of another kind": (
        changed(COCO, lambda content: content["images"][0].update(width="wide")),
        f"{PLACE}: images[0]: width: 'wide' is not",
    ),
    "JSON nested a million times": (replaced(COCO, '{"file_name": "", "categories": ' + "[" * 10**6), f"{PLACE}: "),
    "JSON that is cut off": (
        replaced(COCO, '{"images": [{"id": 1, "file_name": "plot0.jpg"}], "categories": ['),
        f"{PLACE}: not valid JSON",
    ),
    "a stroke that is cut off": (
        changed(TASKS, brush([0, 0, 48, 0, 255])),
        "export/project.json: task 71: result[0]: damaged strokes (cut off); export it again",
    ),
    "a stroke of 4 billion values": (
        changed(TASKS, brush([255] * 64)),
        "export/project.json: task 71: result[0]: strokes of 4294967295 values, but the image has 12288; "
        "export it again",
    ),
    "a stroke that is no bytes": (
        changed(TASKS, brush([999, -5])),
        "export/project.json: task 71: result[0]: damaged strokes (2 numbers); export it again",
    ),
    "a task of no image": (
        changed(TASKS, lambda tasks: tasks[1].update(data={"image": "s3://bucket/other.jpg"})),
        "export/project.json: task 71: no image named 'other.jpg' in export (5 images); add it, or give kd init "
        "the folder of the images and then the annotations",
    ),
    "a rectangle of 3 points": (
        changed(LABELME, lambda content: content["shapes"][1].update(points=[[1, 1], [2, 2], [3, 3]])),
        "export/plot1.json: shapes[1]: a rectangle of 3 points in place of 2; correct it in the tool that drew it",
    ),
    "a mask that is no picture": (
        changed(LABELME, lambda content: content["shapes"][1].update(shape_type="mask", mask="????")),
        "export/plot1.json: shapes[1]: its mask cannot be read; correct it in the tool that drew it",
    ),
    "a mask that is a bomb": (
        changed(LABELME, shape(1, shape_type="mask", mask=BOMB, points=[[1, 1], [5, 5]])),
        "export/plot1.json: shapes[1]: its mask cannot be read; correct it in the tool that drew it",
    ),
    "a circle as large as the universe": (
        changed(LABELME, shape(1, shape_type="circle", points=[[1, 1], [1e300, 5]])),
        "export/plot1.json: shapes[1]: a coordinate beyond 10,000,000; correct it in the tool that drew it",
    ),
    "two images of one id": (
        changed(COCO, lambda content: content["images"][1].update(id=content["images"][0]["id"])),
        f"{PLACE}: images[1]: its id 0 is that of [0] too; export it again",
    ),
    "two categories of one id": (
        changed(COCO, lambda content: content["categories"][1].update(id=content["categories"][0]["id"])),
        f"{PLACE}: categories[1]: its id",
    ),
    "an image that is listed twice": (
        changed(COCO, lambda content: content["images"][1].update(file_name=content["images"][0]["file_name"])),
        f"{PLACE}: export/images/plot0.jpg is listed twice; export it again",
    ),
    "an id that is text in one place and a number in another": (
        changed(COCO, lambda content: content["annotations"][0].update(image_id="0")),
        f"{PLACE}: annotations[0]: no image has the id '0'; export it again",
    ),
    "a run length of 400 digits": (
        changed(COCO, segmentation(3, SIZES | {"counts": [10**400]})),
        f"{PLACE}: plot1.jpg: 1 run lengths of 100000000000000000...0000000000000000000 pixels, but the image has 3072",
    ),
    "objects that all lie outside": (
        changed(COCO, lambda content: [a.update(segmentation=[[-9, 9, -5, 9, -5, 5]]) for a in content["annotations"]]),
        "export: every labelled pixel is background; draw another class",
    ),
    "two tasks of one id": (
        changed(TASKS, lambda tasks: tasks[1].update(id=70)),
        "export/project.json: task 70: another task has this id; export it again",
    ),
    "an image of two tasks": (
        changed(TASKS, lambda tasks: tasks[1].update(data=tasks[0]["data"])),
        "export/project.json: task 71: photos/plot0.jpg is annotated in task 70 too; keep one of the two",
    ),
    "names of YOLO that repeat themselves": (
        replaced(NAMES, "a: &a [x, x]\nnames: [*a, *a]\n"),
        "export/data.yaml:1:4: anchors and aliases (& and *) are not allowed; write the value out",
    ),
    "names of YOLO without numbers": (
        replaced(NAMES, "names: {leaf: 0, stem: 1}\n"),
        "export/data.yaml: names: a key is no number; write a list, in the order of the numbers",
    ),
    "a line that is no outline": (
        replaced(YOLO, "0 0.1 0.1 0.2 0.2 0.3 abc\n"),
        "export/labels/train/plot1.txt:1: expected a class and pairs x y, got '0 0.1 0.1 0.2 0.2 0.3 abc'; "
        "export it again",
    ),
    "an outline of 7 numbers": (
        replaced(YOLO, "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4\n"),
        "export/labels/train/plot1.txt:1: 7 numbers after the class, which are no 3 pairs x y or more; export it again",
    ),
    "a class far beyond the names": (
        replaced(YOLO, "7 0.1 0.1 0.2 0.2 0.3 0.4\n"),
        "export/data.yaml: 2 names, but the labels hold class 7; add the missing names",
    ),
    "a coordinate that is no number": (
        replaced(YOLO, "0 0.1 0.1 0.2 0.2 nan 0.4\n"),
        "export/labels/train/plot1.txt:1: class 0 or a coordinate is out of range; export it again",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_line_names_the_file_and_nothing_is_written(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, message = CASES[case]
    write()
    assert kd("init", "export") == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)
    assert sorted(os.listdir()) == ["export"]


def test_an_archive_is_not_unpacked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bomb of 1 GB in 1 MB stays packed."""
    with zipfile.ZipFile("export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../images/0.png", b"\0" * 10**7)
    assert kd("init", "export.zip") == 3
    assert capsys.readouterr().err == "export.zip: an archive; unpack it, and give kd init the folder\n"


def test_a_file_beyond_the_limit_is_not_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exports.coco(Path("export"))
    with COCO.open("r+b") as file:
        file.seek(10**9)
        file.write(b"0")  # a file with a hole takes no space
    assert kd("init", "export") == 3
    assert (
        capsys.readouterr().err == f"{PLACE}: larger than 512,000,000 bytes, the limit for a JSON file of annotations\n"
    )


def test_links_that_lead_out_are_not_followed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.coco(Path("export"))
    Path("secret").mkdir()
    Path("export/images/plot0.jpg").rename("secret/plot0.jpg")
    Path("export/images/plot0.jpg").symlink_to(Path("secret/plot0.jpg").resolve())
    Path("export/more").symlink_to(Path("secret").resolve())
    assert kd("init", "export") == 3
    assert "no image named 'plot0.jpg' in export (4 images)" in capsys.readouterr().err


def test_links_in_a_circle_are_left_out_and_links_out_are_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.coco(Path("export"))
    Path("export/a").symlink_to("b")
    Path("export/b").symlink_to("a")
    Path("export/images/again").symlink_to(".")
    assert kd("init", "export") == 0
    COCO.rename("instances.json")
    COCO.symlink_to(Path("instances.json").resolve())
    capsys.readouterr()
    assert kd("init", "export", "--out", "other") == 3
    assert "found (5 jpg, and 3 links out of the folder); give kd init" in capsys.readouterr().err


def test_a_picture_of_many_pixels_is_not_decoded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.colored(Path("export"))
    Path("export/masks/plot1.png").write_bytes(bomb(60_000, 2_000))
    assert kd("init", "export") == 3
    assert "the limit is 67108864 in total; cut the image into tiles" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["export"]


def test_objects_that_enclose_nothing_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.coco(Path("export"))
    content = json.loads(COCO.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    content["annotations"][2]["segmentation"] = [[900, 900, 950, 900, 950, 950]]
    COCO.write_text(json.dumps(content))
    assert kd("init", "export") == 0
    expected = f"warning: not drawn: 1 polygon of fewer than 3 points, the first in {PLACE}: annotations[0]\n"
    assert expected in capsys.readouterr().out
    masks = [np.array(Image.open(f"export-kd/masks/plot{number}.png")) for number in range(3)]
    assert [bool((mask == 2).any()) for mask in masks] == [False, False, True]


def test_an_interrupted_conversion_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports.labelme(Path("export"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kd.prepare.convert._save", interrupt)
    assert kd("init", "export") == 130
    assert sorted(os.listdir()) == ["export"]


def test_what_is_there_is_not_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.labelme(Path("export"))
    Path("export-kd").mkdir()
    Path("export-kd/mine.txt").write_text("mine")
    assert kd("init", "export") == 3
    assert capsys.readouterr().err == "export-kd: exists; remove it, or choose another folder with --out DIR\n"
    assert os.listdir("export-kd") == ["mine.txt"]
    assert kd("init", "export", "--out", "other") == 0


def test_messages_name_the_folder_that_was_to_appear(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.coco(Path("export"))
    Path("best.pt").write_bytes(b"weights")
    assert kd("init", "export", "--teacher", "best.pt", "--network", "{use: teachers.DeepLabV3}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("export-kd/student.yaml:5:1: teacher: teachers has no 'DeepLabV3'")
    assert sorted(os.listdir()) == ["best.pt", "export"]
