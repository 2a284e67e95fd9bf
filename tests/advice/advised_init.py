"""Exports of annotation tools: what `kd init` refuses, and the export or the command that it asks for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exports
import numpy as np
import pytest
from advised_data import COLORS, LABELS, save
from command import kd
from following import Row, succeeds

from kd.prepare import codes, files

COCO = Path("export/annotations/instances.json")


def init(*arguments: str) -> None:
    kd("init", "export", *arguments)


def export(form: str) -> None:
    """Write an export again, in place of the one that is there."""
    shutil.rmtree("export", ignore_errors=True)
    exports.EXPORTS[form](Path("export"))


def changed(change: Callable[[Any], object]) -> None:
    """An export of COCO JSON in which something is wrong."""
    export("coco")
    content = json.loads(COCO.read_text())
    change(content)
    COCO.write_text(json.dumps(content))


def twice_annotated() -> None:
    """An export of Label Studio in which two tasks are of one image."""
    export("label_studio")
    tasks = json.loads(Path("export/project.json").read_text())
    tasks[1]["data"] = tasks[0]["data"]
    Path("export/project.json").write_text(json.dumps(tasks))


def short_tasks() -> None:
    """An export of Label Studio in its short form."""
    export("label_studio")
    tasks = json.loads(Path("export/project.json").read_text())
    short = [{"id": task["id"], "image": task["data"]["image"], "tag": [], "annotation_id": 1} for task in tasks]
    Path("export/project.json").write_text(json.dumps(short))


def boxes_of_tasks() -> None:
    """An export of Label Studio with boxes alone."""
    export("label_studio")
    tasks = json.loads(Path("export/project.json").read_text())
    for task in tasks:
        box = {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["leaf"]}
        task["annotations"][0]["result"] = [{"type": "rectanglelabels", "value": box}]
    Path("export/project.json").write_text(json.dumps(tasks))


OTHERS = {  # what a file holds that kd does not read, and what is printed
    "a.xml": (
        "<annotation><object><bndbox>",
        'boxes of Pascal VOC, no outlines; export segmentations, such as "COCO" or "Segmentation mask"',
    ),
    "annotations.xml": (
        "<annotations><image>",
        'CVAT\'s XML; export "Segmentation mask 1.1" or "COCO 1.0" from CVAT',
    ),
    "via.json": ('{"shape_attributes": {}}', "annotations of the VGG Image Annotator; export them as COCO"),
    "ann.json": (
        '{"classTitle": "leaf"}',
        "annotations of Supervisely; export masks, and give kd init the folders img and masks_machine",
    ),
    "panoptic.json": (
        '{"segments_info": []}',
        "panoptic COCO; give kd init the file of the instances, or masks of one number a class",
    ),
}


def other(name: str, content: str, message: str) -> Row:
    """Annotations that kd does not read; the export that the message asks for."""

    def write() -> None:
        shutil.rmtree("export", ignore_errors=True)
        exports.write_photos(Path("export"))
        Path("export", name).write_text(content)
        init()

    def follow(text: str) -> None:
        if name == "ann.json":
            export("one_per_class")
            Path("export/images").rename("export/img")
            Path("export/masks/leaf").rename("export/masks_machine")
            succeeds("init", "export/img", "export/masks_machine")
        else:
            export("cvat" if name == "annotations.xml" else "coco")
            succeeds("init", "export")

    return Row(f"{name}: {message}", write, follow)


def two_masks(*kinds: str) -> None:
    """Folders with masks of several classes for the same images."""
    shutil.rmtree("export", ignore_errors=True)
    exports.write_photos(Path("export/images"))
    for kind in kinds:
        Path("export", kind).mkdir()
        for number in range(exports.COUNT):
            save(exports.by_hand(number), f"export/{kind}/{exports.name(number)}.png")


def named(image: str, mask: str) -> None:
    """Images and masks whose names begin so."""
    shutil.rmtree("export", ignore_errors=True)
    for number in range(3):
        save(np.full((8, 8, 3), 40 * number, np.uint8), f"export/images/{image}{number}.png")
        save(np.eye(8, dtype=np.uint8), f"export/masks/{mask}{number}.png")


def mended(message: str, change: Callable[[Any], object]) -> Row:
    """A fault of COCO JSON that another export does not have."""
    return Row(message, lambda: (changed(change), init()), lambda text: (export("coco"), succeeds("init", "export")))


def masks(values: np.ndarray, names: str = "", file: str = "classes.txt", *arguments: str) -> None:
    """Images and masks of these values, with a class map, given to `kd init`."""
    shutil.rmtree("export", ignore_errors=True)
    for number in range(3):
        save(np.full((*values.shape[:2], 3), 40 * number, np.uint8), f"export/images/{number}.png")
        save(values, f"export/masks/{number}.png")
    if names:
        Path("export", file).write_text(names)
    init(*arguments)


def listed(message: str, values: np.ndarray, names: str, rows: str) -> Row:
    """A class map that the masks do not fit, and one in a file of its own that they do."""

    def follow(text: str) -> None:
        Path("mine.csv").write_text(rows)
        succeeds("init", "export", "--classes", "mine.csv")

    return Row(message, lambda: masks(values, names), follow)


def limited(module: object, name: str, call: Callable[[], None]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, name, 3)
        call()


def far_labels() -> None:
    export("yolo")
    Path("export/labels/train/plot1.txt").write_text("2 0.1 0.1 0.9 0.1 0.9 0.9\n")


def one_json(add: bool) -> None:
    """Masks of Label Studio, a file for each label, with or without the JSON that names the images."""
    shutil.rmtree("export", ignore_errors=True)
    exports.write_photos(Path("export/photos"))
    for number in range(exports.COUNT - 1):
        for index, label in ((1, "leaf"), (2, "stem")):
            white = ((exports.by_hand(number) == index) * 255).astype(np.uint8)
            save(white, f"export/task-{number}-annotation-9-by-1-tag-{label}-0.png")
    if add:
        tasks = [{"id": n, "data": {"image": f"/x/{exports.name(n)}.jpg"}} for n in range(exports.COUNT - 1)]
        exports.write_json(Path("export/tasks.json"), [task | {"annotations": []} for task in tasks])


NOISE = np.arange(384, dtype=np.uint16).reshape(16, 24)
ROWS = [
    mended(
        "annotations[0]: a polygon of 7 numbers, which are no pairs x, y; export it again",
        lambda content: content["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, 6, 7]]),
    ),
    mended(
        "plot0.jpg: a coordinate beyond 10,000,000; correct it in the tool that drew it",
        lambda content: content["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, 1e9]]),
    ),
    mended(
        "instances.json: boxes only, no outlines; export segmentations",
        lambda content: [annotation.pop("segmentation") for annotation in content["annotations"]],
    ),
    mended(
        "instances.json: no object of a class; draw one",
        lambda content: content.update(annotations=[]),
    ),
    mended(
        "instances.json: 254 classes besides the background; merge some, kd takes 253",
        lambda content: content.update(
            categories=[{"id": number, "name": f"n{number}"} for number in range(254)],
            annotations=[a | {"category_id": n} for n in range(254) for a in content["annotations"][:1]],
        ),
    ),
    mended(
        "COCO JSON, 1 file, 2 objects: 1 labelled image; add another one: one is needed to train and one to validate",
        lambda content: content.update(images=content["images"][:1], annotations=content["annotations"][:2]),
    ),
    Row(
        "no image named 'plot0.jpg' in photos (0 images); add it, or give kd init the folder of the images and then "
        "the annotations",
        lambda: (export("coco"), Path("photos").mkdir(), kd("init", "photos", "export")),
        lambda text: succeeds("init", "export/images", "export/annotations"),
    ),
    Row(
        "plot1.json: plot0.jpg is annotated in export/plot0.json too; move one of the two files out of the export",
        lambda: (export("labelme"), shutil.copy("export/plot0.json", "export/plot1.json"), init()),
        lambda text: (Path("export/plot1.json").unlink(), succeeds("init", "export")),
    ),
    mended(
        "export: every labelled pixel is background; draw another class",
        lambda content: [a.update(segmentation=[[-9, -9, -5, -9, -5, -5]]) for a in content["annotations"]],
    ),
    Row(
        "project.json: task 71: photos/plot0.jpg is annotated in task 70 too; keep one of the two",
        lambda: (twice_annotated(), init()),
        lambda text: (export("label_studio"), succeeds("init", "export")),
    ),
    Row(
        "project.json: task 70: no list of annotations, as in JSON-MIN; export it as JSON",
        lambda: (short_tasks(), init()),
        lambda text: (export("label_studio"), succeeds("init", "export")),
    ),
    Row(
        "5 results (rectanglelabels), neither strokes nor polygons; draw objects with a brush or as polygons",
        lambda: (boxes_of_tasks(), init()),
        lambda text: (export("label_studio"), succeeds("init", "export")),
    ),
    *(other(name, text, message) for name, (text, message) in OTHERS.items()),
    Row(
        "labels/plot 3é.png: seg/plot 3é.png has the same name; give kd init the folder of the images and then that "
        "of the masks",
        lambda: (two_masks("seg", "labels"), init()),
        lambda text: succeeds("init", "export/images", "export/labels"),
    ),
    Row(
        "export: mask and manual both hold masks; give kd init the folder of the images and then that of the masks",
        lambda: (two_masks("mask", "manual"), init()),
        lambda text: succeeds("init", "export/images", "export/manual"),
    ),
    Row(
        "images/plot 3é.jpg: masks of 1st and 2nd; move all but those of one out of the folder",
        lambda: (two_masks("1st", "2nd"), init()),
        lambda text: (shutil.move("export/2nd", "."), succeeds("init", "export")),
    ),
    Row(
        "export: none of 3 masks has the name of one of 3 images, such as masks/b0.png and images/a0.png; rename them "
        "alike",
        lambda: (named("a", "b"), init()),
        lambda text: (named("a", "a"), succeeds("init", "export")),
    ),
    Row(
        "export/data.yaml: names: a key is no number; write a list, in the order of the numbers",
        lambda: (export("yolo"), Path("export/data.yaml").write_text("names: {leaf: 0, stem: 1}"), init()),
        lambda text: (Path("export/data.yaml").write_text("names: [leaf, stem]"), succeeds("init", "export")),
    ),
    Row(
        "c.csv: nothing shows which class has which number in the labels; give the names alone, in the order of the "
        "numbers, or name,number",
        lambda: (export("yolo"), Path("c.csv").write_text("bg,0,0,0\na,9,9,9\nb,0,0,9\n"), init("--classes", "c.csv")),
        lambda text: (
            Path("c.csv").write_text("a\nb\n"),
            succeeds("init", "export", "--classes", "c.csv"),
            Path("c.csv").write_text("a,0\nb,1\n"),
            succeeds("init", "export", "--classes", "c.csv", "--out", "other"),
        ),
    ),
    Row(
        "labels.yaml: 2 names, but the labels hold class 2; add the missing names",
        lambda: (far_labels(), Path("labels.yaml").write_text("[a, b]"), init("--classes", "labels.yaml")),
        lambda text: (
            Path("labels.yaml").write_text("[a, b, c]"),
            succeeds("init", "export", "--classes", "labels.yaml"),
        ),
    ),
    Row(
        "no file names the images of the tasks; export JSON too, and put its file into export",
        lambda: (one_json(False), init()),
        lambda text: (one_json(True), succeeds("init", "export")),
    ),
    listed(
        "classes.txt: 2 names, but the masks hold 4 … 6; write name,number a line into a CSV file, and add "
        "--classes FILE",
        LABELS + 4,
        "a\nb\n",
        "a,4\nb,5\nc,6\n",
    ),
    listed(
        "classes.txt: names alone, but the masks hold 3 colours: (0, 0, 0) (50.0 %), (200, 0, 0) (33.3 %), "
        "(0, 0, 200) (16.7 %); write name,r,g,b a line into a CSV file, and add --classes FILE",
        COLORS[LABELS],
        "a\nb\nc\n",
        "a,0,0,0\nb,200,0,0\nc,0,0,200\n",
    ),
    Row(
        "classes.csv: numbers 2 (16.67 % of the pixels) of the masks are missing; add them, under the name ignore if "
        "they are no class",
        lambda: masks(LABELS, "a,0\nb,1\n", "classes.csv"),
        lambda text: (
            Path("export/classes.csv").write_text("a,0\nb,1\nignore,2\n"),
            succeeds("init", "export"),
        ),
    ),
    Row(
        "export/masks/0.png: the masks hold 384 numbers, too many for classes; export one number a class if they are "
        "edges or instances, or add --classes FILE",
        lambda: masks(NOISE),
        lambda text: (masks(LABELS), None),
    ),
    Row(
        "export/masks/0.png: the masks hold 0, 300, 600, and numbers above 255 are ids of instances; export one number "
        "a class, or add --classes FILE",
        lambda: masks(LABELS.astype(np.uint16) * 300),
        lambda text: masks(LABELS),
    ),
    Row(
        "export/masks/0.png: more than 3 numbers in 1 mask; give masks with one for each class",
        lambda: limited(codes, "_MAX_CODES", lambda: masks(NOISE)),
        lambda text: limited(codes, "_MAX_CODES", lambda: masks(LABELS)),
    ),
    Row(
        "export/masks/0.png: all masks hold 0 alone; give masks of at least 2 classes",
        lambda: masks(LABELS * 0),
        lambda text: masks(LABELS),
    ),
    Row(
        "export-kd: exists; remove it, or choose another folder with --out DIR",
        lambda: (export("coco"), Path("export-kd").mkdir(), init()),
        lambda text: succeeds("init", "export", "--out", "other"),
    ),
    Row(
        "export.zip: an archive; unpack it, and give kd init the folder",
        lambda: (export("coco"), shutil.make_archive("export", "zip", "export"), kd("init", "export.zip")),
        lambda text: (shutil.unpack_archive("export.zip", "unpacked"), succeeds("init", "unpacked")),
    ),
    Row(
        "exprot: no such folder or file; give kd init the folder of an export",
        lambda: (export("coco"), kd("init", "exprot")),
        lambda text: succeeds("init", "export"),
    ),
    Row(
        "plot 3é.jpg: 2 images of this name, such as a/plot 3é.jpg; rename one of them",
        lambda: (
            export("labelme"),
            exports.write_photos(Path("photos/a")),
            shutil.copytree("photos/a", "photos/b"),
            kd("init", "photos", "export"),
        ),
        lambda text: (shutil.rmtree("photos/b"), succeeds("init", "photos", "export")),
    ),
    Row(
        "export: more than 3 files; give kd init the folder of one export",
        lambda: (export("labelme"), limited(files, "MAX_FILES", init)),
        lambda text: (
            shutil.rmtree("export"),
            exports.labelme(Path("export/one")),
            succeeds("init", "export/one"),
        ),
    ),
    Row(
        "photos: no images with annotations that kd knows found (5 jpg); give kd init the folder of the images and "
        "then that of the annotations: coco, labelme,",
        lambda: (export("colored"), exports.write_photos(Path("photos")), kd("init", "photos")),
        lambda text: succeeds("init", "photos", "export/masks"),
    ),
]
