import re

import pytest

from kd.data.masks.classes import Classes, distinct_colors, read_classes
from kd.errors import DataError

NAMES = Classes(("sky", "road"), {0: 0, 1: 1}, by_index=True)
NUMBERS = Classes(("sky", "road"), {3: 0, 7: 1})
COLORS = Classes(("sky", "road"), {0x0000FF: 0, 0x090909: 1}, ((0, 0, 255), (9, 9, 9)))


def test_names_alone():
    assert read_classes(["sky", "road"]) == NAMES


def test_names_with_colours_or_values():
    assert read_classes({"sky": [0, 0, 255], "road": [9, 9, 9]}) == COLORS
    assert read_classes({"sky": 3, "road": 7}) == NUMBERS


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.yaml", "sky: [0, 0, 255]\nroad: [9, 9, 9]\n", COLORS),
        ("a.yml", "- no\n- on\n", Classes(("no", "on"), {0: 0, 1: 1}, by_index=True)),  # not False and True
        ("a.yaml", "sky: 3\nroad: 7\n", NUMBERS),
        ("a.yaml", "sky: [[0, 0, 255], [0, 1, 0]]\nroad: [9, 9, 9]\n", COLORS._replace(codes=COLORS.codes | {256: 0})),
        ("a.json", '{"sky": [0, 0, 255], "road": [9, 9, 9]}', COLORS),
        ("a.csv", "name,r,g,b\nsky,0,0,255\n\nroad, 9, 9, 9\n", COLORS),
        ("a.csv", '"sky, blue",0,0,255\nroad,9,9,9\n', COLORS._replace(names=("sky, blue", "road"))),
        ("a.CSV", "name,value\nsky,3\nroad,7\n", NUMBERS),
        ("a.csv", "name;r;g;b\nsky;0;0;255\nroad;9;9;9\n", COLORS),
        ("a.csv", "class\tred\tgreen\tblue\nsky\t0\t0\t255\nroad\t9\t9\t9\n", COLORS),
        ("a.csv", "name\nsky\nroad\n", NAMES),
        ("a.csv", "\ufeffname,r,g,b\nsky,0,0,255\nroad,9,9,9\n", COLORS),
        ("_classes.csv", "Pixel Value, Class\n3, sky\n7, road\n", NUMBERS),  # Roboflow
        ("a.csv", "3,sky\n7,road\n", NUMBERS),
        ("a.csv", "id,name\n3,8\n7,9\n", NUMBERS._replace(names=("8", "9"))),
        ("a.txt", "sky\n\n road \n", NAMES),
        ("labels.txt", "__ignore__\nsky\nroad\n", NAMES),  # labelme
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:0,0,255::\nroad:9,9,9::\n", COLORS),  # CVAT
        ("labelmap.txt", "a:b:0,0,255::\nroad:9, 9, 9:x:y\n", COLORS._replace(names=("a:b", "road"))),
        ("a.csv", "id,name,r,g,b\n0,sky,0,0,255\n1,road,9,9,9\n", COLORS),
        ("a.csv", "name,color\nsky,#0000ff\nroad,#090909\n", COLORS),
        ("a.csv", "1,sky,#0000FF\n2,road,#090909\n", COLORS),
        ("label_colors.txt", "0 0 255\tsky\n9 9 9\t\troad\n", COLORS),  # CamVid
        ("a.txt", "sky 0 0 255\nroad 9 9 9\n", COLORS),
        ("a.txt", "sky,0,0,255\nroad, 9, 9, 9\n", COLORS),
        ("a.txt", "sky #0000ff\nroad #090909\n", COLORS),
        ("a.txt", "3: sky\n7: road\n", NUMBERS),
        ("a.txt", "zone 30\n20 mph sign\n", NAMES._replace(names=("zone 30", "20 mph sign"))),
        ("a.txt", "sky 0 0 255\nroad\n", NAMES._replace(names=("sky 0 0 255", "road"))),
        ("a.yaml", "sky: '#0000ff'\nroad: '#090909'\n", COLORS),
        ("id2label.json", '{"3": "sky", "7": "road"}', NUMBERS),
        ("a.json", '[{"name": "sky", "color": [0, 0, 255]}, {"name": "road", "color": "#090909"}]', COLORS),
        (
            "meta.json",
            '{"classes": [{"title": "sky", "color": "#0000FF"}, {"title": "road", "color": "#090909"}]}',
            COLORS,
        ),
        ("a.json", '[{"id": 3, "name": "sky"}, {"id": 7, "name": "road"}]', NUMBERS),
        ("data.yaml", "path: .\nnames:\n  3: sky\n  7: road\n", NUMBERS),  # YOLO
        ("data.yaml", "nc: 2\nnames: [sky, road]\n", NAMES),
        ("a.yaml", "names: [0, 0, 255]\nroad: [9, 9, 9]\n", COLORS._replace(names=("names", "road"))),
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
        ("a.yaml", "sky: 1\nroad: [[[1]]]\n", ":2: expected one word, got a list or a mapping"),
        ("a.yaml", "just text", ": neither a list of names nor a mapping of names to [r, g, b]"),
        ("a.yaml", "", ": neither a list of names nor a mapping of names to [r, g, b]"),
        ("a.yaml", "sky: 1\nsky: 2\n", ": the class 'sky' occurs twice; remove one"),
        ("a.yaml", "sky: 1\nroad: [1, 2, 3]\n", ": road: colours and values are mixed; give every class the same kind"),
        ("a.yaml", "sky: 1\nroad: 1\n", ": sky and road have the same value; give each class its own"),
        ("a.txt", "sky\nsky\n", ": the class 'sky' occurs twice; remove one"),
        (
            "a.yaml",
            "sky: [[1, 2], [1, 2, 3]]\nroad: [0, 0, 0]\n",
            ": sky: [1, 2] is not a colour; write [r, g, b], each 0 … 255",
        ),
        ("a.yaml", "- sky\n- ignore\n", ": 1 class; give 2 to 254, the background included"),
        ("a.yaml", "- sky\n", ": 1 class; give 2 to 254, the background included"),
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


@pytest.mark.parametrize("text", ["names: &a {names: *a}", "names: &a [*a, *a]", "- {name: &a [*a]}\n"])
def test_yaml_that_holds_itself_ends_in_one_line(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a\.yaml:1: expected one word, got a list or a mapping$"):
        read_classes(str(path))


def test_a_line_of_spaces_takes_no_time(tmp_path):
    (tmp_path / "a.txt").write_text(f"sky{' ' * 200_000}x\nroad\n")
    assert len(read_classes(str(tmp_path / "a.txt")).names) == 2


def test_tags_in_yaml_build_nothing(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("!!python/name:os.system a: !!python/object/apply:os.getpid 1\nb: 2\n")
    assert read_classes(str(path)) == Classes(("a", "b"), {1: 0, 2: 1})


def test_a_file_that_is_missing_or_too_large(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such file$"):
        read_classes(str(tmp_path / "none.csv"))
    (tmp_path / "large.csv").write_bytes(b"a\n" * 200_000)
    with pytest.raises(DataError, match=r"large\.csv: larger than 256,000 bytes, the limit for a class map$"):
        read_classes(str(tmp_path / "large.csv"))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["sky"], "classes: 1 class; give 2 to 254, the background included"),
        ([f"c{i}" for i in range(255)], "classes: 255 classes; give 2 to 254, the background included"),
        (["sky", False], "classes: False is not a class name; a name is text (put it in quotes)"),
        (["sky", "sky"], "classes: the class 'sky' occurs twice; remove one"),
        ({"sky": [1, 2], "road": [1, 2, 3]}, "classes: sky: [1, 2] is not a colour; write [r, g, b], each 0 … 255"),
        ({"sky": -1, "road": 2}, "classes: sky: -1 is not a mask value; write an integer, 0 or above"),
        ({"sky": 2**31, "road": 2}, "classes: sky: 2147483648 is not a mask value; write an integer up to 2147483647"),
        ({"sky": True, "road": 2}, "classes: sky: True is not a mask value; write an integer, 0 or above"),
        ({"sky": [1, 2, 3], "road": [1, 2, 3]}, "classes: sky and road have the same colour; give each class its own"),
    ],
)
def test_mistakes_in_a_recipe(classes, message):
    with pytest.raises(ValueError, match=r".") as error:
        read_classes(classes)
    assert str(error.value) == message
    assert not isinstance(error.value, DataError)  # a recipe's mistake, not the data's


def test_what_the_name_ignore_marks_is_no_class():
    assert read_classes(["ignore", "sky", "road"]) == Classes(("sky", "road"), {0: 255, 1: 0, 2: 1}, by_index=True)
    assert read_classes({"sky": 3, "ignore": 0, "road": 7}) == Classes(("sky", "road"), {3: 0, 0: 255, 7: 1})
    known = read_classes({"sky": [0, 0, 1], "road": [0, 0, 2], "ignore": [[0, 0, 3], [0, 0, 4]]})
    assert known == Classes(("sky", "road"), {1: 0, 2: 1, 3: 255, 4: 255}, ((0, 0, 1), (0, 0, 2)))


def test_a_class_with_several_colours_is_shown_in_the_first():
    known = read_classes({"sky": [[0, 0, 1], [0, 0, 9]], "road": [0, 0, 2]})
    assert known == Classes(("sky", "road"), {1: 0, 9: 0, 2: 1}, ((0, 0, 1), (0, 0, 2)))


def test_colours_are_distinct():
    for count in (2, 12, 60, 254):
        assert len(set(distinct_colors(count))) == count
    assert distinct_colors(3)[0] == (0, 0, 0)
    near = distinct_colors(20)
    assert min(sum(abs(a - b) for a, b in zip(x, y, strict=True)) for i, x in enumerate(near) for y in near[:i]) > 20
