"""The messages about codes without a meaning: each prints one line of YAML, and the line works."""

import re

import pytest
import yaml

from kd.data.masks.classes import read_classes
from kd.data.masks.meaning import declared
from kd.data.masks.unknown import Found, message

CITY = {0: 900, 1: 5, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 7: 300, 9: 5, 10: 5, 26: 40}
CODES = {name: 0x010000 * n for n, name in enumerate(("ground", "tree"))}


def said(classes, counts, **args):
    return message(declared(read_classes(classes), **args), Found(counts, "m/a.png", "row 0, column 0"))


def followed(classes, counts, **args):
    """The message, after the line that it advises is found to make every code known."""
    text = said(classes, counts, **args)
    lines = re.search(r"in data\.args set (.*?)(?:, or a class in place of ignore| if they are no classes)?$", text)[1]
    changed = {"classes": classes} | args | yaml.safe_load(f"{{{lines}}}")
    meaning = declared(read_classes(changed.pop("classes")), **changed)
    numbers = {code & 255 for code in counts} if isinstance(classes, dict) and meaning.by_index else counts.keys()
    assert meaning.rest is not None or meaning.threshold is not None or numbers <= meaning.codes.keys()
    return text


@pytest.mark.parametrize(
    ("classes", "counts", "args", "expected"),
    [
        (  # one stray value
            ["sky", "road"],
            {0: 4, 1: 2, 2: 1, 7: 1},
            {},
            "labels 2 (1 pixel), 7 (1 pixel) in no class (known: 0, 1, ignored 255), first at row 0, column 0; "
            "in data.args set values: {2: ignore, 7: ignore}, or a class in place of ignore",
        ),
        (  # the line is whole: it repeats what the recipe has
            {"sky": 1, "road": 2},
            {0: 4, 1: 2, 9: 1},
            {"values": {9: "road"}},
            "label 0 (4 pixels) in no class (known: 1, 2, 9, ignored 255), first at row 0, column 0; "
            "in data.args set values: {9: road, 0: ignore}, or a class in place of ignore",
        ),
        (  # another numbering
            ["soil", "leaf", "stem"],
            {1: 4, 2: 2, 3: 1},
            {},
            "label 3 (1 pixel) in no class (known: 0 … 2, ignored 255), first at row 0, column 0; the masks hold 1 … 3 "
            "for 3 classes; in data.args set values: {1: soil, 2: leaf, 3: stem}",
        ),
        (
            ["a", "b c", "no: e"],
            {0: 4, 85: 2, 170: 1, 255: 1},
            {},
            "labels 85 (2 pixels), 170 (1 pixel) in no class (known: 0 … 2, ignored 255), first at row 0, column 0; "
            'the masks hold 0, 85, 170 for 3 classes; in data.args set values: {0: a, 85: b c, 170: "no: e"}',
        ),
        (  # 0 is no class
            ["wall", "lamp", "floor"],
            {0: 9, 1: 4, 2: 2, 3: 1},
            {},
            "label 3 (1 pixel) in no class (known: 0 … 2, ignored 255), first at row 0, column 0; the masks hold 0 … 3 "
            "for 3 classes: 0 is probably to be ignored; in data.args set values: {0: ignore, 1: wall, 2: lamp, 3: "
            "floor}",
        ),
        (
            {"road": 7, "car": 26},
            CITY,
            {},
            "labels 0 (900 pixels), 1 (5 pixels), 2 (5 pixels), 3 (5 pixels), 4 (5 pixels), 5 (5 pixels), 6 (5 "
            "pixels), 9 (5 pixels), 10 (5 pixels) in no class (known: 7, 26, ignored 255), first at row 0, column "
            "0; they look like the labelIds of Cityscapes; in data.args set rest: ignore",
        ),
        (
            ["road", "car"],
            CITY,
            {},
            "labels 2 (5 pixels), 3 (5 pixels), 4 (5 pixels), 5 (5 pixels), 6 (5 pixels), 7 (300 pixels), 9 (5 "
            "pixels), 10 (5 pixels), 26 (40 pixels) in no class (known: 0, 1, ignored 255), first at row 0, "
            "column 0; they look like the labelIds of Cityscapes; in data.args set classes: {road: 7, car: 26}, "
            "rest: ignore",
        ),
        (  # one value between is another class, not an edge
            ["hole", "polyp"],
            {0: 900, 7: 30, 255: 80},
            {"values": {0: "hole", 255: "polyp"}},
            "label 7 (30 pixels) in no class (known: 0, 255), first at row 0, column 0; in data.args set values: {0: "
            "hole, 255: polyp, 7: ignore}, or a class in place of ignore",
        ),
        (  # 0 and 255 with soft edges
            ["hole", "polyp"],
            {0: 900, 1: 3, 90: 2, 254: 4, 255: 80},
            {"values": {0: "hole", 255: "polyp"}},
            "labels 1 (3 pixels), 90 (2 pixels), 254 (4 pixels) in no class (known: 0, 255), first at row 0, column 0; "
            "they look like blurred or compressed edges (0.9 % of the pixels); in data.args set threshold: 128",
        ),
        (
            {"a": 0, "b": 100, "c": 200},
            {0: 900, 100: 50, 200: 50, 99: 1, 150: 1, 201: 1},
            {},
            "labels 99 (1 pixel), 150 (1 pixel), 201 (1 pixel) in no class (known: 0, 100, 200, ignored 255), first at "
            "row 0, column 0; they look like blurred or compressed edges (0.3 % of the pixels); in data.args set rest: "
            "ignore",
        ),
        (
            {"ground": [0, 0, 0], "tree": [255, 0, 0]},
            {0: 5, 0xFF0000: 3, 0x0000FF: 2},
            {},
            "colour (0, 0, 255) (2 pixels) in no class, first at row 0, column 0; the nearest colour in classes is "
            '(0, 0, 0); in data.args set values: {"0, 0, 255": ignore}, or a class in place of ignore',
        ),
        (
            {"ground": [0, 0, 0], "tree": [255, 0, 0]},
            {0: 90, 0xFF0000: 30, 0x800000: 2, 0x400000: 1, 0xFE0101: 1},
            {},
            "colours (64, 0, 0) (1 pixel), (128, 0, 0) (2 pixels), (254, 1, 1) (1 pixel) in no class, first at row 0, "
            "column 0; they look like blurred or compressed edges (3.2 % of the pixels); in data.args set rest: ignore",
        ),
        (
            {"ground": [9, 9, 9], "tree": [255, 0, 0]},
            {0: 90, 0x010101: 30},
            {},
            "colours (0, 0, 0) (90 pixels), (1, 1, 1) (30 pixels) in no class, first at row 0, column 0; the masks "
            "hold numbers, not colours; in data.args set classes: [ground, tree]",
        ),
    ],
)
def test_what_is_said_and_the_line_that_helps(classes, counts, args, expected):
    assert followed(classes, counts, **args) == f"m/a.png: {expected}"


def test_ids_of_coco_stuff():
    counts = dict.fromkeys(range(0, 182, 3), 10)
    classes = {"person": 0, "sky": 156}
    assert followed(classes, counts).endswith("they look like the ids of COCO-Stuff; in data.args set rest: ignore")
    assert followed(["person", "sky"], counts).endswith(
        "they look like the ids of COCO-Stuff; write classes with their ids, such as {person: 0, sky-other: 156}, and "
        "in data.args set rest: ignore"
    )


def test_ids_of_instances():
    assert said(["a", "b"], {0: 5, 1: 5, 13001: 3, 26002: 2}).endswith(
        "in no class (known: 0, 1, ignored 255), first at row 0, column 0; numbers above 255 are ids of instances, not "
        "of classes; set masks or mask_suffix to the files that hold one number per class"
    )


def test_many_codes_are_one_line_of_bounded_length():
    text = said(["a", "b"], dict.fromkeys(range(200), 1))
    assert "2 (1 pixel), 3 (1 pixel)" in text
    assert "41 (1 pixel) and 158 more in no class" in text
    assert "\n" not in text
