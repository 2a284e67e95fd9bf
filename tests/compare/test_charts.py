import xml.etree.ElementTree as ET

import pytest

from kd.compare.charts import Line, Mark, line_chart, ruler, ticks


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


def test_a_ruler_places_values_by_size_and_draws_bars_from_their_start():
    marks = [
        Mark("teacher & co", "red", 0.9, raised=False),
        Mark("baseline", "grey", 0.5, raised=False),
        Mark("student", "blue", 0.7, raised=True, start=0.5),
    ]
    root = ET.fromstring(ruler("three scores", marks))
    x = [float(circle.attrib["cx"]) for circle in root.findall("circle")]
    assert x[2] - x[1] == pytest.approx((x[0] - x[1]) / 2, abs=0.1)
    (bar,) = root.findall("line[@stroke='blue']")
    assert (float(bar.attrib["x1"]), float(bar.attrib["x2"])) == (x[1], x[2])
    assert [text.text for text in root.findall("text")] == ["teacher & co", "baseline", "student"]
    heights = [float(text.attrib["y"]) for text in root.findall("text")]
    assert heights[2] < float(root.find("circle").attrib["cy"]) < heights[0] < heights[1]
