"""The same labelled images as different annotation tools export them, and their masks drawn by hand."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH, COUNT = 48, 64, 5
Mask = NDArray[np.uint8]
COLORS = np.array([[0, 0, 0], [20, 160, 40], [180, 180, 60]], np.uint8)


def name(number: int) -> str:
    return f"plot {number}é" if number == 3 else f"plot{number}"


def by_hand(number: int) -> Mask:
    """A leaf with a hole, a stem that lies over it, and background; the last image is background alone."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    if number < COUNT - 1:
        mask[4:36, 8 + number : 40 + number] = 1
        mask[10:20, 16 + number : 24 + number] = 0
        mask[20:30, 30:50] = 2
    return mask


def leaf_outline(number: int) -> list[tuple[int, int]]:
    """The leaf with its hole as one outline: a cut leads to the hole and back."""
    left = 8 + number
    outer = [(left, 4), (left + 32, 4), (left + 32, 36), (left, 36), (left, 4)]
    hole = [(left + 8, 10), (left + 16, 10), (left + 16, 20), (left + 8, 20), (left + 8, 10)]
    return [*outer, *hole]


STEM = [(30, 20), (50, 20), (50, 30), (30, 30)]


def photo(number: int) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 60, (HEIGHT, WIDTH, 3))
    return Image.fromarray((COLORS[by_hand(number)] + noise).astype(np.uint8))


def write_photos(folder: Path, suffix: str = "jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        photo(number).save(folder / f"{name(number)}.{suffix}")


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def runs(region: NDArray[np.bool_]) -> list[int]:
    """COCO's run lengths of a region, down the columns."""
    flat = region.T.ravel()
    turns = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *turns.tolist(), flat.size]).tolist()
    return [0, *counts] if flat[0] else counts


def packed(counts: list[int]) -> str:
    """Run lengths as COCO's characters."""
    text = ""
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return text


def coco(folder: Path) -> None:
    write_photos(folder / "images")
    annotations: list[dict[str, Any]] = []
    for number in range(COUNT - 1):
        leaf = np.zeros((HEIGHT, WIDTH), bool)
        leaf[4:36, 8 + number : 40 + number] = True
        leaf[10:20, 16 + number : 24 + number] = False
        counts = runs(leaf)
        forms: list[Any] = [
            [np.array(leaf_outline(number)).ravel().tolist()],
            {"size": [HEIGHT, WIDTH], "counts": counts},
            {"size": [HEIGHT, WIDTH], "counts": packed(counts)},
        ]
        stem = [np.array(STEM).ravel().tolist()]
        annotations += [
            {"id": 2 * number, "image_id": number, "category_id": 9, "iscrowd": 0, "segmentation": stem},
            {
                "id": 2 * number + 1,
                "image_id": number,
                "category_id": 4,
                "iscrowd": 0,
                "segmentation": forms[number % 3],
            },
        ]
    images = [
        {"id": number, "file_name": f"{name(number)}.jpg", "width": WIDTH, "height": HEIGHT} for number in range(COUNT)
    ]
    categories = [{"id": 9, "name": "stem"}, {"id": 4, "name": "leaf"}]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "annotations/instances.json", content)


def yolo(folder: Path) -> None:
    write_photos(folder / "images/train")
    (folder / "labels/train").mkdir(parents=True)
    for number in range(COUNT - 1):
        lines = []
        for label, outline in ((1, STEM), (0, leaf_outline(number))):
            lines.append(" ".join([str(label), *(f"{x / WIDTH:.9f} {y / HEIGHT:.9f}" for x, y in outline)]))
        (folder / f"labels/train/{name(number)}.txt").write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text("path: ../plots\ntrain: images/train\nnames:\n  0: leaf\n  1: stem\n")


def labelme(folder: Path) -> None:
    write_photos(folder)
    for number in range(COUNT):
        shapes = [
            {"label": "leaf", "points": leaf_outline(number), "shape_type": "polygon", "group_id": None, "flags": {}},
            {"label": "stem", "points": [STEM[0], STEM[2]], "shape_type": "rectangle", "group_id": None, "flags": {}},
        ]
        content = {
            "version": "5.4.1", "flags": {}, "shapes": shapes if number < COUNT - 1 else [], "imageData": None,
            "imagePath": f"{name(number)}.jpg", "imageHeight": HEIGHT, "imageWidth": WIDTH,
        }  # fmt: skip
        write_json(folder / f"{name(number)}.json", content)


def cvat(folder: Path) -> None:
    write_photos(folder / "JPEGImages")
    for kind in ("SegmentationClass", "SegmentationObject"):
        (folder / kind).mkdir()
        for number in range(COUNT):
            Image.fromarray(COLORS[by_hand(number)]).save(folder / kind / f"{name(number)}.png")
    rows = [
        f"{label}:{','.join(map(str, color))}::"
        for label, color in zip(("background", "leaf", "stem"), COLORS, strict=True)
    ]
    (folder / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(rows) + "\n")
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "ImageSets/Segmentation/default.txt").write_text("".join(f"{name(n)}\n" for n in range(COUNT)))


def roboflow(folder: Path) -> None:
    for number in range(COUNT):
        part = folder / ("valid" if number in (1, 4) else "train")
        part.mkdir(parents=True, exist_ok=True)
        photo(number).save(part / f"{name(number)}.jpg")
        Image.fromarray(by_hand(number)).save(part / f"{name(number)}_mask.png")
        (part / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, leaf\n2, stem\n")


def brush_stream(region: NDArray[np.bool_]) -> list[int]:
    """A region as Label Studio's stream of bits: RGBA, runs of repeated values alone."""
    values = np.repeat(region.ravel(), 4).astype(int) * 255
    turns = np.flatnonzero(np.diff(values)) + 1
    starts = [0, *turns.tolist(), len(values)]
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for start, end in pairwise(starts):
        while start < end:
            length = min(end - start, 2**16)
            bits += f"1{3:02b}{length - 1:016b}{values[start]:08b}"
            start += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def label_studio(folder: Path) -> None:
    write_photos(folder / "photos")
    tasks = []
    for number in range(COUNT):
        leaf = by_hand(number) == 1
        leaf[20:30, 30 : 40 + number] |= number < COUNT - 1  # the stem lies over it
        size = {"original_width": WIDTH, "original_height": HEIGHT}
        brush = {"format": "rle", "rle": brush_stream(leaf), "brushlabels": ["leaf"]}
        points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in STEM]
        results = [
            {"type": "brushlabels", "value": brush, **size},
            {"type": "polygonlabels", "value": {"points": points, "polygonlabels": ["stem"]}, **size},
        ]
        tasks.append({
            "id": 70 + number,
            "data": {"image": f"/data/upload/1/1a2b3c4d-{name(number)}.jpg"},
            "annotations": [{"id": number, "was_cancelled": False, "result": results if number < COUNT - 1 else []}],
        })  # fmt: skip
    write_json(folder / "project.json", tasks)


def one_per_class(folder: Path) -> None:
    write_photos(folder / "images")
    for index, label in ((1, "leaf"), (2, "stem")):
        (folder / f"masks/{label}").mkdir(parents=True)
        for number in range(COUNT):
            white = ((by_hand(number) == index) * 255).astype(np.uint8)
            Image.fromarray(white).save(folder / f"masks/{label}/{name(number)}.png")


def colored(folder: Path) -> None:
    write_photos(folder / "images")
    (folder / "masks").mkdir()
    for number in range(COUNT):
        Image.fromarray(COLORS[by_hand(number)]).save(folder / f"masks/{name(number)}.png")
    rows = [
        f"{label},{','.join(map(str, color))}"
        for label, color in zip(("background", "leaf", "stem"), COLORS, strict=True)
    ]
    (folder / "class_mapping.csv").write_text("name,r,g,b\n" + "\n".join(rows) + "\n")


EXPORTS: dict[str, Callable[[Path], None]] = {
    "coco": coco, "yolo": yolo, "labelme": labelme, "cvat": cvat, "roboflow": roboflow, "label_studio": label_studio,
    "one_per_class": one_per_class, "colored": colored,
}  # fmt: skip
