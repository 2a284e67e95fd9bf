import json

import pytest
import torch
from manifests import unfinish
from tiny import equal, read, run, weights, write_recipes

from kd.errors import RecipeError
from kd.machine import versions
from kd.recipe import baseline_of
from kd.runs import read_environment


def recipe_of(folder, *overrides):
    return baseline_of(read(write_recipes(folder), *overrides))


def test_deterministic_runs_are_bit_equal_and_torch_is_as_before(tmp_path):
    recipe = recipe_of(tmp_path, "deterministic=true", "data.workers=0")
    (first,), _ = run(recipe, tmp_path / "first")
    (second,), _ = run(recipe, tmp_path / "second")
    assert equal(weights(first), weights(second))
    assert (first / "metrics.jsonl").read_bytes() == (second / "metrics.jsonl").read_bytes()
    assert json.loads((first / "environment.json").read_text())["deterministic"] is True
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_that_is_not_deterministic_is_named(tmp_path):
    recipe = recipe_of(tmp_path)
    nets = (tmp_path / "nets.py").read_text()
    put = "        images = images.clone().put_(torch.tensor([0]), torch.tensor([0.5]))\n        low ="
    (tmp_path / "nets.py").write_text(nets.replace("        low =", put))
    run(recipe, tmp_path / "runs")
    with pytest.raises(RecipeError) as caught:
        run(baseline_of(read(tmp_path / "student.yaml", "deterministic=true")), tmp_path / "other")
    assert "deterministic: put_ has no deterministic implementation" in str(caught.value)


def test_deterministic_is_not_part_of_the_id(tmp_path):
    assert recipe_of(tmp_path).id == recipe_of(tmp_path, "deterministic=true").id


def test_environment_has_versions_hardware_code_and_command(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["kd", "run", "a recipe.yaml"])
    (run_dir,), _ = run(recipe_of(tmp_path), tmp_path / "runs")
    environment = json.loads((run_dir / "environment.json").read_text())
    assert environment["versions"] == versions()
    assert environment["hardware"]["cores"] >= 1
    assert environment["hardware"]["processor"]
    assert environment["command"] == "kd run 'a recipe.yaml'"
    assert environment["processes"] == 1
    assert set(environment["git"]) == {"here", "kd"}
    assert read_environment(run_dir).colors == ((0, 0, 0), (255, 255, 0))


def test_another_version_at_resume_is_reported(tmp_path):
    recipe = recipe_of(tmp_path)
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    unfinish(run_dir)
    file = run_dir / "environment.json"
    environment = json.loads(file.read_text())
    environment["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(environment))
    _, lines = run(recipe, tmp_path / "runs")
    now = versions()["torch"]
    assert f"  torch was 1.0 and is now {now}: perhaps not bit-identical to an uninterrupted run" in lines


def test_another_commit_at_resume_is_a_line_and_no_difference_of_inputs(tmp_path):
    recipe = recipe_of(tmp_path)
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    for name in ("result.json", "manifest.json"):
        (run_dir / name).unlink()
    file = run_dir / "environment.json"
    environment = json.loads(file.read_text())
    now = environment["git"]["kd"]
    environment["git"]["kd"] = "0" * 40
    file.write_text(json.dumps(environment))
    _, lines = run(recipe, tmp_path / "runs")
    assert f"  the commit of kd was {'0' * 40} and is now {now or 'none'}" in lines
