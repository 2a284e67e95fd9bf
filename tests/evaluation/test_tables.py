"""Scores of runs as tables, JSON and CSV, by hand."""

import csv
import io
from pathlib import Path

import numpy as np

from kd.evaluation.scored import Scored
from kd.evaluation.tables import detail_tables, run_rows, to_csv, to_json
from kd.runs import ImageCounts, MetricResult, Result, SplitResult


def scored(
    confusion,
    classes=("soil", "leaf", "stem"),
    *,
    folder="a-0123abcd",
    metrics=None,
    counts=None,
    seen=0,
    seed=0,
    id="0123abcd",
    place=None,
):
    matrix = np.array(confusion, np.int64)
    images = ImageCounts(
        ("x/1.png", "=2,b.png"), np.zeros((2, len(classes), 3), np.int64) if counts is None else counts
    )
    split = SplitResult(matrix, list(classes), 2, metrics or {}, per_image=images)
    result = Result(id, "a", seed, "student", "nets.py:Net", None, None, "last", {"val": split}, 9, 1.0, 2.0, 3, {})
    return Scored(Path("runs", folder, place or f"seed{seed}"), result, split, seen)


# soil: 6 of 6 right and 2 more; leaf: 2 of 4; stem occurs nowhere
UNITS = ((10.0, "px"), (1.2, "mm"))
ONE = [[6, 0, 0], [2, 2, 0], [0, 0, 0]]


def test_a_run_is_a_row_and_a_class_is_a_row():
    header = ["run", "mIoU %", "pixel acc. %", "images"]
    assert run_rows([scored(ONE)]) == (header, [["a-0123abcd/seed0", "62.5", "80.0", "2"]])
    classes = [["soil", "75.0"], ["leaf", "50.0"], ["stem", "–"]]
    assert list(detail_tables([scored(ONE)])) == [(["class", "IoU %"], classes)]


def test_several_runs_are_numbered_and_may_have_other_classes_and_metrics():
    distance = {"HausdorffDistance": MetricResult({"mean": 12.345, "soil": None}, "px", "lower")}
    boundary = {"BoundaryIoU": MetricResult({"mean": None}, "%", "higher")}
    other = scored([[1, 1], [0, 2]], ("soil", "moss"), folder="b-4567cdef", metrics=distance, seen=1)
    runs = [scored(ONE, metrics=boundary), other]
    header, rows = run_rows(runs)
    assert header[-1] == "trained on"
    assert [(row[0], row[-1]) for row in rows] == [("1 a-0123abcd/seed0", "0"), ("2 b-4567cdef/seed0", "1")]
    (header, classes), metrics = detail_tables(runs)
    assert header == ["IoU %", "run 1", "run 2"]
    assert classes == [["soil", "75.0", "50.0"], ["leaf", "50.0", "–"], ["stem", "–", "–"], ["moss", "–", "66.7"]]
    rows = [["BoundaryIoU %", "–", "–"], ["HausdorffDistance px ↓", "–", "12.3"]]
    assert metrics == (["metric", "run 1", "run 2"], rows)


def test_a_metric_in_two_units_is_two_rows():
    runs = [scored(ONE, metrics={"H": MetricResult({"mean": value}, unit, "lower")}) for value, unit in UNITS]
    assert list(detail_tables(runs))[1][1] == [["H px ↓", "10", "–"], ["H mm ↓", "–", "1.2"]]


def test_the_seeds_of_a_recipe_have_a_mean():
    """62.5 and 75 (3 of 4, 3 of 4): 68.75 with a standard deviation of 12.5 / √2."""
    runs = [scored(ONE), scored([[3, 1, 0], [0, 3, 0], [0, 0, 0]], seed=1), scored(ONE, folder="b-4567cdef")]
    assert run_rows(runs)[1][-1] == ["mean of a-0123abcd, 2 seeds", "68.8 ± 8.8", "82.9 ± 4.0", ""]
    (mean,) = to_json(runs, "val")["means"]
    assert (mean["recipe"], mean["seeds"], mean["miou"]["mean"]) == ("a-0123abcd", [0, 1], 0.6875)


def test_in_a_renamed_folder_another_recipe_and_a_copy_are_no_seeds():
    """62.5 and 75 are of one recipe, as above; the folder also holds a seed of another one, and a copy."""
    runs = [
        scored(ONE, folder="mine", place="first"),
        scored([[3, 1, 0], [0, 3, 0], [0, 0, 0]], folder="mine", seed=1),
        scored(ONE, folder="mine", place="copy"),
        scored(ONE, folder="mine", id="4567cdef", seed=2),
    ]
    (mean,) = to_json(runs, "val")["means"]
    assert (mean["recipe"], mean["seeds"], mean["miou"]["mean"]) == ("mine", [0, 1], 0.6875)


def test_many_runs_are_several_tables_that_fit_a_narrow_terminal():
    metrics = {"BoundaryIoU": MetricResult({"mean": 1.0}, "%", "higher")}
    runs = [scored(ONE, folder=f"{index}-0123abcd", metrics=metrics) for index in range(14)]
    found = list(detail_tables(runs))
    assert [header[0] for header, _ in found] == ["IoU %", "metric"] * 3
    assert [(header[1], header[-1]) for header, _ in found[::2]] == [
        ("run 1", "run 6"),
        ("run 7", "run 12"),
        ("run 13", "run 14"),
    ]
    assert all(len("  ".join(header[1:])) < 50 for header, _ in found)


def test_json_has_every_number():
    plain = to_json([scored(ONE, metrics={"D": MetricResult({"mean": 0.5}, "%", "higher")})], "test")
    assert (plain["schema_version"], plain["split"]) == (2, "test")
    (run,) = plain["runs"]
    assert (run["miou"], run["pixel_accuracy"], run["mean_accuracy"]) == (0.625, 0.8, 0.75)
    assert run["classes"][0] == {"name": "soil", "iou": 0.75, "dice": 12 / 14}
    assert run["classes"][2] == {"name": "stem", "iou": None, "dice": None}
    assert run["metrics"] == {"D": {"values": {"mean": 0.5}, "unit": "%", "direction": "higher"}}
    assert run["confusion"] == ONE


def test_the_csv_has_a_row_for_each_image_over_the_classes_that_occur_in_it():
    """Image 1: soil 3 of union 4, leaf 0 of union 1, stem nowhere; 3 of 4 pixels right. Image 2 has no label."""
    counts = np.array([[[3, 4, 3], [0, 0, 1], [0, 0, 0]], [[0, 0, 0]] * 3], np.int64)
    rows = list(csv.reader(io.StringIO(to_csv([scored(ONE, counts=counts)]))))
    assert rows == [
        ["run", "image", "miou", "pixel_accuracy"],
        ["runs/a-0123abcd/seed0", "x/1.png", "0.375000", "0.750000"],
        ["runs/a-0123abcd/seed0", "=2,b.png", "", ""],
    ]
