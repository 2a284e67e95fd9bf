"""Comparisons, lists and differences as JSON, Markdown and CSV; and the published schemas."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from manifests import list_anew
from recipe_text import ALONE

from kd.cli import main
from kd.compare import compare_command, output
from kd.compare.diff import diff_command
from kd.compare.gathering.gather import gather
from kd.compare.markdown import to_markdown
from kd.compare.plain import to_csv, to_json
from kd.runs import MetricResult

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"


@pytest.mark.parametrize("command", ["compare", "diff", "evaluate", "latency", "list", "study"])
def test_the_published_schema_is_that_of_the_code(command, capsys):
    assert main(["schema", command]) == 0
    printed = capsys.readouterr().out
    assert (SCHEMAS / f"{command}.schema.json").read_text() == printed, "run make generated"
    schema = json.loads(printed)
    assert schema["additionalProperties"] is False  # a key that nobody described would be refused
    assert isinstance(schema["properties"]["schema_version"]["const"], int)


def test_every_number_of_the_tables_is_in_the_json(made, trio):
    comparison = gather([str(trio())])
    student = to_json(comparison)["networks"][2]
    shown = (
        student["miou"]["mean"],
        student["pixel_accuracy"]["mean"],
        student["vs_baseline"]["points"],
        student["vs_teacher"]["points"],
        student["parameters"] / 1e6,
        student["size"],
        student["seconds"] / 60,
        student["images_per_second"],
    )
    assert [round(value, 1) for value in shown] == [81.8, 90.0, 15.2, -8.7, 6.8, 27.3, 11.2, 29.1]
    output.CompareOutput.model_validate(to_json(comparison))


def test_runs_and_differences_as_json(made, trio, capsys, tmp_path):
    student = trio()
    assert main(["list", "--json", "--runs", str(made.folder)]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["schema_version"] == 1
    run = next(run for run in listed["runs"] if run["role"] == "student")
    assert (run["run"], run["miou"], run["state"]) == (str(student), 81.8182, "finished")
    baseline = made.folder / "small_kl-bbbbbbbb" / "seed0"
    for run_dir, batch in ((student, 4), (baseline, 8)):
        (run_dir / "recipe.yaml").write_text(ALONE.replace("batch_size: 4", f"batch_size: {batch}"))
        list_anew(run_dir)
    assert diff_command(student, baseline, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["a"], found["b"]) == (str(student), str(baseline))
    assert {"key": "recipe.train.batch_size", "a": "4", "b": "8"} in found["differences"]
    assert not diff_command(student, student, as_json=True)
    assert json.loads(capsys.readouterr().out)["differences"] == []


def test_a_list_without_runs_is_a_document_too(tmp_path, capsys):
    assert main(["list", "--json", "--runs", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "runs": []}


def test_the_csv_has_the_spread_of_metrics_and_what_decides_a_gain(made):
    made.teacher()
    for seed, value in enumerate((0.2, 0.4)):
        made.baseline(seed=seed, val=made.counted(70, 71))
        metric = {"H": MetricResult({"mean": value}, "px", "lower")}
        val = replace(made.counted(80, 82), metrics=metric)
        run_dir = made.student(seed=seed, val=val, taught_val=made.counted(90, 91))
    comparison = gather([run_dir.parent])
    row = list(csv.DictReader(io.StringIO(to_csv(comparison))))[-1]
    whole = to_json(comparison)["networks"][-1]
    assert [float(row[f"H mean px{sd}"]) for sd in ("", " sd")] == pytest.approx([0.3, 0.02**0.5])
    assert row["vs_baseline_p_holm"] == str(whole["vs_baseline"]["p_holm"])
    assert [row[f"closed{end}"] for end in ("", "_low", "_high")] == [
        str(whole["closed"][end]) for end in ("value", "low", "high")
    ]
    assert (row["images_seen"], row["weak_baseline"]) == (str(whole["images_seen"]), "")


def test_a_row_of_csv_for_each_network(made, trio, capsys):
    file = made.folder / "rows.csv"
    compare_command([str(trio())], page=False, csv_file=file)
    assert f"rows: {file}" in capsys.readouterr().out
    teacher, baseline, student = csv.DictReader(io.StringIO(file.read_text()))
    assert (student["label"], student["miou"], student["vs_baseline_points"]) == ("student", "81.8182", "15.1515")
    assert (student["iou sky"], student["iou sign"], student["miou_sd"]) == ("81.8182", "", "")
    assert (baseline["vs_baseline_points"], teacher["network"]) == ("", "teachers.Big")


def test_markdown_has_the_words_and_the_tables(made, trio, capsys):
    run_dir = trio()
    compare_command([str(run_dir)], form="markdown")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("**Distillation changed the mIoU by +15.2 points")
    assert lines[2].startswith("Decision: take the teacher")
    assert lines[6].startswith("|  | network | mIoU % | vs baseline |")
    assert lines[7].startswith("| --- | --- | ---: | ---: |")
    assert "| sky | 90.5 | 66.7 | 81.8 | +15.2 |" in lines
    assert lines[-1].startswith("- no interval for small\\_kl-cccccccc")
    assert not (run_dir / "report.html").exists()


def test_names_of_classes_do_not_become_markup(made, trio):
    comparison = replace(gather([str(trio())]), classes=("a|b", "<img src=x>", "[c](http://d)\x1b"))
    text = to_markdown(comparison)
    assert "| a\\|b | 90.5" in text
    assert "| \\<img src=x\\> |" in text
    assert "\x1b" not in text
    assert "iou a|b" in to_csv(comparison).splitlines()[0]
