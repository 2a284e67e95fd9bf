import pytest

from kd.data.masks.classes import read_classes
from kd.data.masks.meaning import declared
from kd.errors import DataError

NAMES = read_classes(["background", "fetus"])
NUMBERS = read_classes({"wall": 1, "lamp": 2})
COLORS = read_classes({"wall": [0, 0, 0], "lamp": [255, 0, 0]})


@pytest.mark.parametrize(
    ("classes", "values", "codes"),
    [
        (NAMES, None, {0: 0, 1: 1, 255: 255}),
        (NAMES, {3: "ignore"}, {0: 0, 1: 1, 3: 255, 255: 255}),  # in addition to the class map
        (NAMES, {3: "fetus"}, {0: 0, 1: 1, 3: 1, 255: 255}),
        (NAMES, {0: "background", 255: "fetus"}, {0: 0, 255: 1}),  # all classes of a list: 1 is no number of theirs
        (NAMES, {"0": "background", 3: "fetus", 4: "fetus", 9: "ignore"}, {0: 0, 3: 1, 4: 1, 9: 255, 255: 255}),
        (NUMBERS, {0: "ignore"}, {0: 255, 1: 0, 2: 1, 255: 255}),
        (NUMBERS, {7: "wall", 8: "lamp"}, {1: 0, 2: 1, 7: 0, 8: 1, 255: 255}),
        (NUMBERS, {-9999: "ignore"}, {1: 0, 2: 1, -9999: 255, 255: 255}),  # "no data" of geographic files
        (NUMBERS, {1: "lamp"}, {1: 1, 2: 1, 255: 255}),  # what `values` states counts
        (read_classes({"a": 3, "b": 255}), None, {3: 0, 255: 1}),
        (read_classes(["ignore", "wall", "lamp"]), None, {0: 255, 1: 0, 2: 1, 255: 255}),
        (COLORS, None, {0: 0, 0xFF0000: 1}),
        (COLORS, {"1, 2, 3": "lamp", "[255,255,255]": "ignore"}, {0: 0, 0xFF0000: 1, 0x010203: 1, 0xFFFFFF: 255}),
    ],
)
def test_the_class_of_each_code(classes, values, codes):
    assert declared(classes, values).codes == codes


@pytest.mark.parametrize(
    ("classes", "args", "message"),
    [
        (
            NAMES,
            {"values": {0: "fetsu"}},
            "values: 0 is mapped to 'fetsu', which is not a class; did you mean 'fetus'?",
        ),
        (
            NAMES,
            {"values": {0: "x"}},
            "values: 0 is mapped to 'x', which is not a class; known: background, fetus, ignore",
        ),
        (NAMES, {"values": {"a": "fetus"}}, "values: 'a' is not a mask value; write an integer, such as {7: ignore}"),
        (NAMES, {"values": {0.5: "fetus"}}, "values: 0.5 is not a mask value; write an integer, such as {7: ignore}"),
        (
            NAMES,
            {"values": {2**31: "fetus"}},
            f"values: {2**31} is not a mask value; write an integer, such as {{7: ignore}}",
        ),
        (
            NAMES,
            {"values": {"1, 2, 3": "fetus"}},
            "values: '1, 2, 3' is a colour, but classes gives none; write classes: {name: [r, g, b], …}",
        ),
        (
            COLORS,
            {"values": {255: "ignore"}},
            'values: 255 is not a colour, and classes gives colours; write "255, 255, 255": ignore',
        ),
        (
            COLORS,
            {"values": {"0, 0, 256": "ignore"}},
            "values: '0, 0, 256' is not a colour, and classes gives colours; write \"255, 255, 255\": ignore",
        ),
        (NAMES, {"rest": "fetsu"}, "rest: it is mapped to 'fetsu', which is not a class; did you mean 'fetus'?"),
        (NAMES, {"threshold": 0}, "threshold: 0 is not a shade of grey; write an integer, 1 … 255, such as 128"),
        (NAMES, {"threshold": 0.5}, "threshold: 0.5 is not a shade of grey; write an integer, 1 … 255, such as 128"),
        (
            read_classes(["a", "b", "c"]),
            {"threshold": 128},
            "threshold: it separates two classes, but there are 3; remove it",
        ),
    ],
)
def test_mistakes_in_a_recipe(classes, args, message):
    with pytest.raises(ValueError, match=r".") as error:
        declared(classes, **args)
    assert str(error.value) == message
    assert not isinstance(error.value, DataError)
