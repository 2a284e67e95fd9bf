import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from kd.compare.figures import (
    GAINED,
    LOST,
    STILL_WRONG,
    VOID,
    WRONG,
    Line,
    as_rgb,
    changes,
    colourise,
    data_uri,
    differences,
    jpeg,
    line_chart,
    overlay,
    panel,
    png,
    ticks,
)

COLORS = [(255, 0, 0), (0, 255, 0)]
BLACK = np.zeros((1, 4, 3), np.uint8)


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_labels_take_their_classes_colours_and_ignored_pixels_are_striped():
    labels = np.array([[0, 1, 255, 255], [1, 255, 255, 0]], np.uint8)
    red, green, (light, dark) = (255, 0, 0), (0, 255, 0), VOID
    expected = [[red, green, light, dark], [green, light, dark, red]]
    assert colourise(labels, COLORS).tolist() == [[list(color) for color in row] for row in expected]


def test_an_overlay_mixes_and_leaves_ignored_pixels_alone():
    image = np.full((1, 2, 3), 100, np.uint8)
    mixed = overlay(image, np.array([[0, 255]], np.uint8), COLORS, opacity=0.25)
    assert mixed.tolist() == [[[139, 75, 75], [100, 100, 100]]]


def test_differences_are_marked_except_where_nothing_is_scored():
    marked = differences(BLACK, np.array([[0, 1, 1, 0]]), np.array([[0, 0, 255, 0]]))
    assert marked.tolist() == [[[200] * 3, list(WRONG), [200] * 3, [200] * 3]]


def test_changes_tell_gained_lost_and_still_wrong_apart():
    labels, before, after = np.array([[0, 0, 0, 0]]), np.array([[1, 0, 1, 0]]), np.array([[0, 1, 1, 0]])
    assert changes(BLACK, before, after, labels).tolist() == [[list(GAINED), list(LOST), list(STILL_WRONG), [200] * 3]]
    nothing = np.full((1, 4), 255)
    assert changes(BLACK, before, after, nothing).tolist() == [[[200] * 3] * 4]


def test_images_of_one_and_of_other_channels_are_grey():
    one = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    assert as_rgb(one)[1, 0].tolist() == [2, 2, 2]
    assert as_rgb(np.concatenate([one, one + 9]))[1, 0].tolist() == [2, 2, 2]
    assert as_rgb(np.concatenate([one, one + 9, one + 18]))[1, 0].tolist() == [2, 11, 20]


def test_label_maps_survive_the_png_and_images_stay_photographs():
    labels = colourise(np.random.default_rng(0).integers(0, 2, (16, 16)), COLORS)
    assert (opened(png(labels)) == labels).all()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert (opened(png(noise)) == noise).all()
    assert data_uri(png(labels)).startswith("data:image/png;base64,")
    assert data_uri(jpeg(noise)).startswith("data:image/jpeg;base64,")


def test_a_panel_puts_rows_of_images_under_their_titles():
    red, green = np.full((10, 20, 3), (255, 0, 0), np.uint8), np.full((10, 20, 3), (0, 255, 0), np.uint8)
    picture = opened(panel([("image", red), ("student", green)], [("", green), ("", red)], width=40))
    assert picture.shape == (26 + 20 + 6 + 20, 40 + 6 + 40, 3)
    assert picture[30, 10].tolist() == [255, 0, 0]
    assert picture[30, 60].tolist() == [0, 255, 0]
    assert picture[60, 10].tolist() == [0, 255, 0]
    assert (picture[:26] < 100).any()  # the titles
    with pytest.raises(ValueError, match=r"panel: rows have \[1, 2\] images; give each row the same columns"):
        panel([("a", red)], [("a", red), ("b", red)])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 60, [0, 20, 40, 60]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 0, [0]), (-1.5, 3, [-1, 0, 1, 2, 3])],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert ticks(low, high) == expected


def test_a_chart_is_one_valid_svg_without_what_is_not_finite():
    points = [(0, 0.5), (10, float("nan")), (20, 1.0)]
    chart = line_chart("a < b", [Line("loss", "red", points), Line("loss", "red", [(5, 1.0)])], "step", "loss")
    root = ET.fromstring(chart)
    lines = root.findall(".//polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [2, 1]
    first, last = (tuple(map(float, point.split(","))) for point in lines[0].attrib["points"].split())
    assert first[0] < last[0]  # later is right
    assert first[1] > last[1]  # higher is up
    assert [span.text or "".join(span.itertext()) for span in root.findall(".//span")] == ["loss"]
    assert line_chart("empty", [Line("loss", "red", [(0, float("inf"))])], "step", "loss") == ""
