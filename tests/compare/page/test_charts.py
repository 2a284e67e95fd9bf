"""The numbers of the page's charts."""

import json
from dataclasses import replace

import numpy as np
import pytest
from manifests import list_anew

from kd.compare.comparison import Latencies
from kd.compare.gathering.gather import gather
from kd.compare.page.charts import chart_data
from kd.runs import MetricResult


@pytest.fixture
def seeds(made, trio):
    """A student with two seeds and its curves; its first seed's weights were scored by a baseline's curve too."""
    first, second = trio(), made.student(80, seed=1)
    for run_dir, scores in ((first, (0.25, 0.75)), (second, (0.5, float("nan")))):
        lines = [{"step": step, "val/miou": score} for step, score in zip((10, 20), scores, strict=True)]
        losses = [{"step": step, "loss/kl": 1.0 / step, "loss/total": 9.0} for step in range(1, 300)]
        (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines + losses))
        list_anew(run_dir)
    return gather([str(first.parent)])


def test_every_seed_is_a_line_and_what_is_not_finite_is_left_out(seeds):
    score, losses = chart_data(seeds)["curves"]
    assert [(line["of"], line["seed"], line["points"]) for line in score["lines"]] == [
        ("student", 0, [(10, 25.0), (20, 75.0)]),
        ("student", 1, [(10, 50.0)]),
    ]
    assert score["levels"] == [{"of": "teacher, trained", "color": "var(--teacher)", "value": 90.48}]
    assert [line["of"] for line in losses["lines"]] == ["kl", "supervised, baseline"]
    assert len(losses["lines"][0]["points"]) == 100  # 299 lines in parts of 3


def test_a_gain_keeps_its_sign_and_its_interval(made):
    made.teacher()
    made.baseline(val=made.counted(80, 70, 90))
    student = made.student(val=made.counted(60, 75, 60), taught_val=made.counted(90, 90, 90))
    (gain,) = chart_data(gather([str(student)]))["gains"]
    (sky, road) = gain["rows"]  # no pixel is labelled sign
    assert (sky["class"], road["class"]) == ("sky", "road")
    # IoU of 240 of 300 pixels right 240/360, of 195 right 195/405
    assert sky["points"] == pytest.approx(100 * (195 / 405 - 240 / 360), abs=0.01)
    assert sky["low"] < sky["points"] < sky["high"]


def test_confusions_are_points_of_a_labels_pixels(made, trio):
    (confusion,) = chart_data(gather([str(trio())]))["confusions"]
    assert confusion["classes"] == ["sky", "road", "sign"]
    before, after, change = confusion["cells"][0][1]  # sky read as road: 20 of 100 pixels, then 10
    assert (before, after, change) == (20.0, 10.0, -10.0)
    assert confusion["cells"][2] == [[0.0, 0.0, 0.0]] * 3  # no pixel is labelled sign


def test_a_network_has_its_latency_and_its_gain(made, trio):
    comparison = gather([str(trio())])
    teacher, _, student = chart_data(replace(comparison, latencies=Latencies({"small_kl-cccccccc": 12.3456}, "")))[
        "networks"
    ]
    assert (teacher["latency"], student["latency"]) == (None, 12.346)
    assert (student["before"], student["score"], student["gain"]) == (66.67, 81.82, "+15.2")


def test_arrow_and_confusions_are_of_the_seeds_that_both_have(made):
    """The arrow is as long as the gain, and points the same way, whatever further seeds reach."""
    made.teacher()
    made.baseline(80)
    made.student(85)
    made.student(60, seed=1)
    data = chart_data(gather([str(made.folder / "small_kl-cccccccc")]))
    *_, student = data["networks"]
    assert (student["before"], student["after"], student["gain"]) == (66.67, 73.91, "+7.2")
    assert student["score"] == 58.39
    assert data["confusions"][0]["cells"][0][0] == [80.0, 85.0, 5.0]


def test_without_a_common_seed_there_is_no_arrow(made):
    made.baseline(80)
    made.student(85, seed=1)
    data = chart_data(gather([str(made.folder / "small_kl-cccccccc")]))
    assert [(row["before"], row["after"]) for row in data["networks"]] == [(None, None)] * 3
    assert data["confusions"] == []


def test_reliability_has_the_bins_that_hold_pixels(made):
    values = {"ece": 0.1, "share 0": 0.0, "confidence 0": None, "accuracy 0": None}
    values |= {"share 1": 1.0, "confidence 1": 0.9, "accuracy 1": 0.8}
    made.teacher()
    made.baseline()
    student = made.student(metrics={"CalibrationError": MetricResult(values, "%", "lower")})
    (network,) = chart_data(gather([str(student)]))["reliability"]
    assert (network["of"], network["bins"]) == ("student", [{"share": 100.0, "confidence": 90.0, "accuracy": 80.0}])


def test_the_data_are_plain_json_where_nothing_is_defined(made, trio):
    comparison = gather([str(trio())])
    nothing = replace(comparison.entries[0].splits[0], confusion=np.zeros((3, 3), np.int64))
    empty = replace(comparison, entries=tuple(replace(entry, splits=(nothing,)) for entry in comparison.entries))
    json.dumps(chart_data(empty), allow_nan=False)


def test_the_best_student_is_the_first_in_every_choice(made, trio):
    first, second = trio(), made.student(94, name="small_cwd-dddddddd")
    data = chart_data(gather([str(first), str(second)]))
    assert [gain["label"] for gain in data["gains"]] == ["small_cwd", "small_kl"]
    assert [confusion["label"] for confusion in data["confusions"]] == ["small_cwd", "small_kl"]
