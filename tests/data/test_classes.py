import re

import pytest

from kd.data.classes import Classes, class_of_values, distinct_colors, read_classes
from kd.errors import DataError


def test_names_alone():
    assert read_classes(["sky", "road"]) == Classes(("sky", "road"))


def test_names_with_colours_or_values():
    assert read_classes({"sky": [0, 0, 255], "road": [9, 9, 9]}) == Classes(("sky", "road"), ((0, 0, 255), (9, 9, 9)))
    assert read_classes({"sky": 3, "road": 7}) == Classes(("sky", "road"), None, (3, 7))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.yaml", "sky: [0, 0, 255]\nroad: [9, 9, 9]\n", Classes(("sky", "road"), ((0, 0, 255), (9, 9, 9)))),
        ("a.yml", "- no\n- on\n", Classes(("no", "on"))),  # YAML 1.1 would read False and True
        ("a.yaml", "sky: 3\nroad: 7\n", Classes(("sky", "road"), None, (3, 7))),
        ("a.csv", "name,r,g,b\nsky,0,0,255\n\nroad, 9, 9, 9\n", Classes(("sky", "road"), ((0, 0, 255), (9, 9, 9)))),
        ("a.csv", '"sky, blue",0,0,255\nroad,9,9,9\n', Classes(("sky, blue", "road"), ((0, 0, 255), (9, 9, 9)))),
        ("a.CSV", "name,value\nsky,3\nroad,7\n", Classes(("sky", "road"), None, (3, 7))),
        ("a.csv", "name;r;g;b\nsky;0;0;255\nroad;9;9;9\n", Classes(("sky", "road"), ((0, 0, 255), (9, 9, 9)))),
        (
            "a.csv",
            "class\tred\tgreen\tblue\nsky\t0\t0\t255\nroad\t9\t9\t9\n",
            Classes(("sky", "road"), ((0, 0, 255), (9, 9, 9))),
        ),
        ("a.csv", "name\nsky\nroad\n", Classes(("sky", "road"))),
        ("a.csv", "\ufeffname,r,g,b\nsky,0,0,255\nroad,9,9,9\n", Classes(("sky", "road"), ((0, 0, 255), (9, 9, 9)))),
    ],
)
def test_files(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert read_classes(str(tmp_path / name)) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,r,g,b\nsky,0,0,x\nroad,9,9,9\n", ":2: expected name,r,g,b, got 'sky,0,0,x'"),
        ("a.csv", "sky,0,0,x\nroad,9,9,9\n", ":1: expected name,r,g,b, got 'sky,0,0,x'"),
        ("a.csv", "sky;0;0;255\nroad;9;9\n", ":2: expected name,r,g,b, got 'road;9;9'"),
        ("a.csv", "sky,0,0,255\nroad,9,9\n", ":2: expected name,r,g,b, got 'road,9,9'"),
        ("a.csv", "sky,0,0,255\nroad,9,9,x\n", ":2: expected name,r,g,b, got 'road,9,9,x'"),
        ("a.csv", "sky,0,0,255\nroad,9,9,256\n", ": road: [9, 9, 256] is not a colour; write [r, g, b], each 0 … 255"),
        ("a.yaml", "sky: blue\nroad: 1\n", ":1: 'blue' is not an integer, 0 or above"),
        ("a.yaml", "sky: 1\nroad: [[1]]\n", ":2: expected one word, got a list or a mapping"),
        ("a.yaml", "just text", ": neither a list of names nor a mapping of names to [r, g, b]"),
        ("a.yaml", "", ": neither a list of names nor a mapping of names to [r, g, b]"),
        ("a.yaml", "sky: 1\nsky: 2\n", ": the class 'sky' occurs twice; remove one"),
        ("a.yaml", "sky: 1\nroad: [1, 2, 3]\n", ": road: colours and values are mixed; give every class the same kind"),
        ("a.yaml", "sky: 1\nroad: 1\n", ": sky and road have the same value; give each class its own"),
        ("a.yaml", "- sky\n", ": 1 classes; give 2 to 254, the background included"),
    ],
)
def test_mistakes_in_files(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_classes(str(path))
    assert str(error.value) == f"{path}{message}"


@pytest.mark.parametrize(
    "text", ["[" * 20000, "[a: " * 20000, "- " * 20000, "? " * 20000, "a: &a [1]\nb: *c\n", "\t\t: -"]
)
def test_hostile_yaml_ends_in_one_line(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_classes(str(path))
    assert re.match(rf"{path}(:[12])?: not YAML: ", str(error.value))
    assert "\n" not in str(error.value)


def test_tags_in_yaml_build_nothing(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("!!python/name:os.system a: !!python/object/apply:os.getpid 1\nb: 2\n")
    assert read_classes(str(path)) == Classes(("a", "b"), None, (1, 2))


def test_a_file_that_is_missing_or_too_large(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such file$"):
        read_classes(str(tmp_path / "none.csv"))
    (tmp_path / "large.csv").write_bytes(b"a\n" * 200_000)
    with pytest.raises(DataError, match=r"large\.csv: larger than 256,000 bytes, the limit for a class map$"):
        read_classes(str(tmp_path / "large.csv"))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["sky"], "classes: 1 classes; give 2 to 254, the background included"),
        ([f"c{i}" for i in range(255)], "classes: 255 classes; give 2 to 254, the background included"),
        (["sky", False], "classes: False is not a class name; a name is text (put it in quotes)"),
        (["sky", "sky"], "classes: the class 'sky' occurs twice; remove one"),
        ({"sky": [1, 2], "road": [1, 2, 3]}, "classes: sky: [1, 2] is not a colour; write [r, g, b], each 0 … 255"),
        ({"sky": -1, "road": 2}, "classes: sky: -1 is not a mask value; write an integer, 0 or above"),
        ({"sky": True, "road": 2}, "classes: sky: True is not a mask value; write an integer, 0 or above"),
        ({"sky": [1, 2, 3], "road": [1, 2, 3]}, "classes: sky and road have the same colour; give each class its own"),
    ],
)
def test_mistakes_in_a_recipe(classes, message):
    with pytest.raises(ValueError, match=r".") as error:
        read_classes(classes)
    assert str(error.value) == message
    assert not isinstance(error.value, DataError)  # a recipe's mistake, not the data's


def test_classes_of_values():
    known = Classes(("background", "fetus"))
    assert class_of_values(known, None) == {0: 0, 1: 1, 255: 255}
    assert class_of_values(known, {0: "background", 255: "fetus"}) == {0: 0, 255: 1}
    assert class_of_values(known, {"0": "background", 3: "fetus", 4: "fetus", 9: "ignore"}) == {
        0: 0,
        3: 1,
        4: 1,
        9: 255,
        255: 255,
    }
    assert class_of_values(Classes(("a", "b"), None, (3, 255)), None) == {3: 0, 255: 1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({0: "fetsu"}, "values: 0 is mapped to 'fetsu', which is not a class; did you mean 'fetus'?"),
        ({0: "x"}, "values: 0 is mapped to 'x', which is not a class; known: background, fetus, ignore"),
        ({"a": "fetus"}, "values: 'a' is not a mask value; write {0: background, …}"),
        ({-1: "fetus"}, "values: -1 is not a mask value; write {0: background, …}"),
    ],
)
def test_mistakes_in_values(values, message):
    with pytest.raises(ValueError, match=r"^values: ") as error:
        class_of_values(Classes(("background", "fetus")), values)
    assert str(error.value) == message


def test_colours_are_distinct():
    for count in (2, 12, 60, 254):
        assert len(set(distinct_colors(count))) == count
    assert distinct_colors(3)[0] == (0, 0, 0)
    near = distinct_colors(20)
    assert min(sum(abs(a - b) for a, b in zip(x, y, strict=True)) for i, x in enumerate(near) for y in near[:i]) > 20
