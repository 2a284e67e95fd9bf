"""One declaration, every encoding: what a file looks like never decides what its values mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kd.data.masks.classes import read_classes
from kd.data.masks.encoding import count_codes, read_codes, read_labels
from kd.data.masks.meaning import declared
from kd.errors import DataError

COLORS = {"sky": [0, 0, 0], "snow": [255, 255, 255], "road": [128, 128, 128], "car": [200, 0, 0], "ignore": [0, 0, 200]}
TABLE = np.array(list(COLORS.values()), dtype=np.uint8)
BY_COLOR = declared(read_classes(COLORS))
BY_NUMBER = declared(read_classes(["sky", "snow", "road", "car"]))
RNG = np.random.default_rng(0)


def as_numbers(labels, encoding):
    if encoding == "palette":  # the colours of a palette do not matter, nor that one is transparent
        image = Image.fromarray(labels, mode="P")
        image.putpalette(RNG.integers(0, 256, 768).tolist())
        image.info["transparency"] = 0
        return image
    if encoding == "16":
        return Image.fromarray(labels.astype(np.uint16))
    if encoding == "1":
        return Image.fromarray(labels.astype(bool))
    return Image.fromarray(labels).convert(encoding)


def as_colors(labels, encoding):
    rgb = TABLE[labels]
    if encoding == "palette":
        order = RNG.permutation(len(TABLE))
        image = Image.fromarray(np.argsort(order)[labels].astype(np.uint8), mode="P")
        image.putpalette(TABLE[order].ravel().tolist())
        return image
    return Image.fromarray(rgb).convert(encoding)


some_labels = (
    st.integers(0, 2**32 - 1)
    .map(np.random.default_rng)
    .map(lambda random: random.integers(0, 5, random.integers(1, 9, 2)).astype(np.uint8))
)
FILES = [
    ("png", {}),
    ("tif", {"compression": "tiff_lzw"}),
    ("bmp", {}),
    ("webp", {"lossless": True}),
    ("gif", {"optimize": False}),
]


@settings(max_examples=40)
@given(some_labels, st.sampled_from(["palette", "L", "LA", "RGB", "RGBA", "16", "1"]), st.sampled_from(FILES))
def test_numbers_come_back_from_every_encoding(tmp_path_factory, labels, encoding, file):
    suffix, options = file
    labels = labels % 2 if encoding == "1" else labels % 4
    if (suffix, encoding) not in {("png", "LA"), ("png", "RGBA"), ("png", "16"), ("tif", "16"), ("png", "1")}:
        encoding = "L" if suffix == "bmp" else "RGB" if suffix == "webp" else "palette"
    path = tmp_path_factory.mktemp("a") / f"a.{suffix}"
    as_numbers(labels, encoding).save(path, **options)
    assert read_labels(path, BY_NUMBER).tolist() == labels.tolist()


@settings(max_examples=40)
@given(some_labels, st.sampled_from(["palette", "RGB", "RGBA", "L", "LA", "1"]), st.sampled_from(FILES))
def test_colours_come_back_from_every_encoding(tmp_path_factory, labels, encoding, file):
    suffix, options = file
    labels = labels % 2 if encoding == "1" else labels % 3 if encoding in ("L", "LA") else labels
    if suffix != "png" and encoding not in ("palette", "L"):
        encoding = "RGB" if suffix != "gif" else "palette"
    path = tmp_path_factory.mktemp("a") / f"a.{suffix}"
    as_colors(labels, encoding).save(path, **options)
    assert read_labels(path, BY_COLOR).tolist() == np.array([0, 1, 2, 3, 255])[labels].tolist()


def saved(path, pixels, mode=None, **options):
    image = Image.fromarray(np.array(pixels, dtype=np.uint8))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("classes", "values", "white"),
    [
        (["a", "b"], None, 1),  # the number that is stored
        (["a", "b"], {255: "ignore"}, 1),
        (["a", "b"], {0: "a", 255: "b"}, 1),  # 255, a class
        ({"a": 0, "b": 255}, None, 1),
        (["a", "b"], {0: "b", 255: "a"}, 0),
        ({"a": [255, 255, 255], "b": [0, 0, 0]}, None, 0),
    ],
)
@pytest.mark.parametrize("kind", ["1", "palette"])
def test_white_of_a_mask_in_one_bit(tmp_path, classes, values, white, kind):
    image = Image.fromarray(np.array([[False, True, True]]))
    if kind == "palette":
        image = Image.fromarray(np.array([[0, 1, 1]], dtype=np.uint8), mode="P")
        image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "a.png")
    labels = read_labels(tmp_path / "a.png", declared(read_classes(classes), values))
    assert labels.tolist() == [[1 - white, white, white]]


def test_a_colour_may_mark_what_another_one_marks_or_be_ignored(tmp_path):
    classes = read_classes({"ground": [[0, 0, 0], [9, 9, 9]], "car": [1, 2, 3]})
    meaning = declared(classes, {"4,5,6": "car", "255, 255, 255": "ignore"})
    path = saved(tmp_path / "a.png", [[[0, 0, 0], [9, 9, 9], [1, 2, 3], [4, 5, 6], [255, 255, 255]]])
    assert read_labels(path, meaning).tolist() == [[0, 0, 1, 1, 255]]


def test_the_rest_is_what_the_recipe_says(tmp_path):
    numbers = saved(tmp_path / "a.png", [[7, 26, 3, 255]])
    classes = read_classes({"road": 7, "car": 26})
    assert read_labels(numbers, declared(classes, rest="ignore")).tolist() == [[0, 1, 255, 255]]
    assert read_labels(numbers, declared(classes, rest="road")).tolist() == [[0, 1, 0, 255]]
    deep = tmp_path / "16.png"
    Image.fromarray(np.array([[7, 26, 26001]], dtype=np.uint16)).save(deep)
    assert read_labels(deep, declared(classes, rest="ignore")).tolist() == [[0, 1, 255]]
    below = tmp_path / "32.tif"
    Image.fromarray(np.array([[7, -9999]], dtype=np.int32)).save(below)
    assert read_labels(below, declared(classes, {-9999: "ignore"})).tolist() == [[0, 255]]
    assert read_labels(numbers, declared(classes, {-9999: "car"}, rest="ignore")).tolist() == [[0, 1, 255, 255]]
    colors = saved(tmp_path / "c.png", [[[0, 0, 0], [7, 7, 8]]])
    assert read_labels(colors, declared(read_classes(COLORS), rest="ignore")).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("name", "options", "encoding"),
    [
        ("a.jpg", {}, "JPEG"),
        ("a.webp", {}, "lossy WebP"),
        ("a.avif", {}, "AVIF"),
        ("a.jp2", {}, "JPEG 2000"),
        ("a.tif", {"compression": "jpeg"}, "JPEG in TIFF"),
    ],
)
def test_lossy_masks_are_refused_or_separated_by_a_threshold(tmp_path, name, options, encoding):
    labels = np.zeros((32, 32), dtype=np.uint8)
    labels[8:24, 8:24] = 255
    path = saved(tmp_path / name, labels, "RGB" if name.endswith("webp") else None, **options)
    with pytest.raises(DataError) as error:
        read_labels(path, BY_NUMBER)
    assert str(error.value) == f"{path}: {encoding} changes labels; use the original masks, saved as PNG"
    two = read_classes(["hole", "polyp"])
    with pytest.raises(DataError, match=r"if there are none, in data\.args set threshold: 128$"):
        read_labels(path, declared(two))
    for values in (None, {0: "hole", 255: "polyp"}):
        assert read_labels(path, declared(two, values, threshold=128)).tolist() == (labels // 255).tolist()


def test_a_threshold_is_for_shades(tmp_path):
    meaning = declared(read_classes({"a": [0, 0, 0], "b": [255, 255, 255]}), threshold=100)
    assert read_labels(saved(tmp_path / "a.png", [[0, 99, 100, 255]]), meaning).tolist() == [[0, 0, 1, 1]]
    path = saved(tmp_path / "b.png", [[0, 1]])
    with pytest.raises(DataError) as error:
        read_labels(path, meaning)
    assert str(error.value) == f"{path}: the mask holds 0 and 1, not shades of grey; remove threshold"


def test_colours_where_numbers_are_declared_and_the_reverse(tmp_path):
    path = saved(tmp_path / "a.png", [[[0, 0, 0], [9, 0, 0]]])
    with pytest.raises(DataError) as error:
        read_labels(path, BY_NUMBER)
    assert str(error.value) == (
        f"{path}: a mask in colour, but the classes are numbers; in data.args set classes: {{sky: [r, g, b], snow: "
        "[r, g, b], …}"
    )
    Image.fromarray(np.array([[300]], dtype=np.uint16)).save(path)
    with pytest.raises(DataError) as error:
        read_labels(path, BY_COLOR)
    assert str(error.value) == (
        f"{path}: a mask of 16 bits, but classes gives colours; it holds 300: give the number of each class, such as "
        "classes: {sky: 300, …}"
    )
    Image.fromarray(np.array([[300, 0, 7, 9]], dtype=np.uint16)).save(path)
    with pytest.raises(DataError, match=r"; in data\.args set classes: \{sky: 0, snow: 7, road: 9, car: 300\}$"):
        read_labels(path, BY_COLOR)


def test_codes_are_counted(tmp_path):
    path = saved(tmp_path / "a.png", [[0, 0, 7, 255]])
    assert count_codes(read_codes(path, BY_NUMBER)) == {0: 2, 7: 1, 255: 1}
    assert count_codes(read_codes(path, BY_COLOR)) == {0: 2, 0x070707: 1, 0xFFFFFF: 1}
    path = saved(tmp_path / "b.png", [[[1, 2, 3], [1, 2, 3], [255, 0, 0]]])
    assert count_codes(read_codes(path, BY_COLOR)) == {0x010203: 2, 0xFF0000: 1}
