import io
import json
import re

import pytest
from manifests import list_anew, unfinish
from rich.console import Console
from tiny import read, run, write_recipes

from kd.cli import main
from kd.compare.diff import _headline, diff_command
from kd.recipe import baseline_of
from kd.runs import MetricResult


def printed(a, b):
    console = Console(width=300, record=True, file=io.StringIO())
    differs = diff_command(a, b, console=console)
    rows = [re.split(r" {2,}", line.strip()) for line in console.export_text().splitlines()]
    return differs, {row[0]: tuple(row[1:]) for row in rows if len(row) == 3}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipes(tmp_path)
    return tmp_path


def test_recipes_differ_key_by_key_and_nothing_is_imported(folder):
    (folder / "nets.py").write_text("raise SystemExit('imported')")
    (folder / "other.yaml").write_text(
        (folder / "student.yaml")
        .read_text()
        .replace("lr: 0.1", "lr: 0.2")
        .replace("  kl: {loss: {use: kd.losses.PixelKL}}\n", "")
    )
    differs, rows = printed("student.yaml", "other.yaml")
    assert differs
    assert rows["recipe.optimizer.args.lr"] == ("0.1", "0.2")
    assert rows["recipe.distill.kl.loss.use"] == ("kd.losses.PixelKL", "–")
    assert "recipe.train.batch_size" not in rows
    assert "recipe.id" in rows


def test_a_recipe_does_not_differ_from_itself(folder, capsys):
    assert main(["diff", "student.yaml", "student.yaml"]) == 0
    assert capsys.readouterr().out == "student.yaml and student.yaml: no difference\n"


@pytest.mark.parametrize(("unit", "shown"), [("%", 1.2), ("mm", "1.2000 mm"), ("", "1.2000")])
def test_a_metric_has_its_unit(unit, shown):
    assert _headline(MetricResult({"mean": 1.2}, unit, "lower")) == shown


def test_runs_differ_in_versions_and_results_too(folder):
    (first,), _ = run(baseline_of(read("student.yaml")), folder / "runs")
    (second,), _ = run(baseline_of(read("student.yaml", "train.steps=4")), folder / "runs")
    environment = json.loads((second / "environment.json").read_text())
    environment["versions"]["torch"] = "1.0"
    (second / "environment.json").write_text(json.dumps(environment))
    list_anew(second)
    _, rows = printed(first, second)
    assert rows["recipe.train.steps"] == ("8", "4")
    assert rows["environment.versions.torch"][1] == "1.0"
    assert "result.val.miou" in rows
    assert "environment.versions.numpy" not in rows
    unfinish(second)
    assert printed(first, second)[1]["result"] == ("–", "unfinished")
