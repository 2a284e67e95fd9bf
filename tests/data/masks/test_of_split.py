import time

import numpy as np
import pytest
from PIL import Image

from kd.data.images.decode import read_header
from kd.data.images.files import Pair
from kd.data.masks.classes import read_classes
from kd.data.masks.meaning import declared
from kd.data.masks.of_split import (
    in_time,
    kinds_note,
    refuse_black_and_white,
    refuse_lossy,
    refuse_shifted,
    threshold_note,
)
from kd.errors import DataError

TWO = ["hole", "cell"]


def written(folder, *masks, mode="L", name="{}.png", **options):
    pairs = []
    for values in masks:
        path = folder / name.format(len([*folder.iterdir()]))
        Image.fromarray(np.array(values, dtype=np.uint8)).convert(mode).save(path, **options)
        pairs.append(Pair(path, path))
    return pairs


def refused(pairs, others=(), classes=TWO, **args):
    try:
        refuse_black_and_white(pairs, lambda: list(others), declared(read_classes(classes), **args))
    except DataError as error:
        return str(error)
    return None


def test_black_and_white_of_two_classes(tmp_path):
    pairs = written(tmp_path, [[0, 0, 0, 255]], [[0, 0, 0, 0]])
    line = "in data.args set values: {0: hole, 255: cell}"
    assert refused(pairs) == (
        "masks: only 0 and 255 occur in 2 masks, and 255 is ignored by default: the whole foreground (12.5 % of the "
        f"pixels) would be ignored; {line}"
    )
    assert refused(pairs, classes={"hole": 0, "cell": 1}).endswith(line)
    assert refused(pairs, rest="ignore").endswith(line)
    assert refused(pairs, values={7: "ignore"}).endswith("in data.args set values: {7: ignore, 0: hole, 255: cell}")


@pytest.mark.parametrize(
    ("classes", "args"),
    [
        (TWO, {"values": {0: "hole", 255: "cell"}}),
        (TWO, {"values": {255: "ignore"}}),  # stated
        (TWO, {"threshold": 128}),
        ({"hole": 0, "cell": 255}, {}),
        ({"hole": [0, 0, 0], "cell": [255, 255, 255]}, {}),
        (["hole", "cell", "wall"], {}),  # background and ignored pixels: no task of two classes
    ],
)
def test_where_255_has_a_meaning(tmp_path, classes, args):
    assert refused(written(tmp_path, [[0, 255]]), classes=classes, **args) is None


def test_all_masks_of_all_splits_are_looked_at(tmp_path):
    pairs = written(tmp_path, *[[[0, 255]]] * 30)
    assert refused(pairs, written(tmp_path, [[0, 255]])) is not None
    assert refused(pairs, written(tmp_path, [[0, 1]])) is None
    assert refused([*pairs, *written(tmp_path, [[0, 1]])]) is None
    assert refused(written(tmp_path, [[0, 0]])) is None  # nothing is ignored


def test_a_list_that_counts_from_0_for_masks_that_count_from_1(tmp_path):
    classes = read_classes(["soil", "leaf", "stem"])
    pairs = written(tmp_path, [[1, 2, 255]], [[2, 3, 3]])
    for values in ({3: "stem"}, {3: "ignore"}):
        with pytest.raises(DataError) as error:
            refuse_shifted(pairs, declared(classes, values))
        assert str(error.value) == (
            "masks: they hold 1 … 3 and never 0, but a list of names counts from 0; in data.args set values: {1: soil, "
            "2: leaf, 3: stem}, or add 0: soil to values if that is meant"
        )
    for values in (None, {4: "stem"}, {0: "soil", 3: "stem"}, {1: "soil", 2: "leaf", 3: "stem"}):
        refuse_shifted(pairs, declared(classes, values))
    refuse_shifted([*pairs, *written(tmp_path, [[0, 1, 2]])], declared(classes, {3: "stem"}))
    refuse_shifted(pairs[:1], declared(classes, {3: "stem"}))


def test_lossy_masks_are_counted(tmp_path):
    pairs = written(tmp_path, [[0, 1]], [[0, 1]], name="{}.jpg") + written(tmp_path, [[0, 1]])
    masks, headers = [item.mask for item in pairs], [read_header(item.mask) for item in pairs]
    with pytest.raises(DataError) as error:
        refuse_lossy(masks, headers, declared(read_classes([*TWO, "wall"])))
    assert str(error.value) == (f"{masks[0]}: JPEG changes labels (2 of 3 masks); use the original masks, saved as PNG")
    refuse_lossy(masks, headers, declared(read_classes(TWO), threshold=128))
    refuse_lossy(masks[2:], headers[2:], declared(read_classes(TWO)))


def test_kinds_that_differ_are_named_with_examples(tmp_path):
    pairs = written(tmp_path, [[0, 1]], [[1, 1]]) + written(tmp_path, [[0, 1]], mode="P")
    masks, headers = [item.mask for item in pairs], [read_header(item.mask) for item in pairs]
    assert kinds_note(masks, headers, declared(read_classes(TWO))) == [
        f"masks of several kinds: 2 grey (such as {masks[0]}), 1 palette (such as {masks[2]}); classes and values "
        "decide for all: they hold numbers"
    ]
    assert kinds_note(masks[:2], headers[:2], declared(read_classes(TWO))) == []


def test_the_share_of_doubtful_shades(tmp_path):
    pairs = written(tmp_path, [[0, 31, 32, 255]], [[223, 224, 255, 128]])
    assert threshold_note(pairs, declared(read_classes(TWO), threshold=128)) == [
        "threshold 128: 37.5 % of the pixels are doubtful (shades 32 … 223; 2 masks)"
    ]
    assert threshold_note(pairs, declared(read_classes(TWO))) == []


def test_time_is_bounded():
    assert [*in_time(lambda item: item, range(100))] == [*range(100)]
    slow = [*in_time(lambda item: time.sleep(0.02) or item, range(1000), seconds=0.1)]
    assert slow == [*range(len(slow))]
    assert 0 < len(slow) < 100
