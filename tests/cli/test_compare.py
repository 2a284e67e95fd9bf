"""`kd compare`, and the comparison of `kd demo`."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command import kd

from kd.recipe import yaml12
from kd.recipe.shipped import shipped_recipes


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each file was read as a recipe."""
    counts: Counter[Path] = Counter()
    read_text = yaml12.read_text

    def counted(file: Path, **how: Any) -> str:
        counts[file.resolve()] += 1
        return read_text(file, **how)

    monkeypatch.setattr(yaml12, "read_text", counted)
    return counts


@pytest.mark.parametrize("options", [[], ["--no-page"], ["--json"]])
def test_compare_reads_a_recipe_once(recipe, reads, capsys, options):
    assert kd("run", recipe, "--trust", "train.steps=2") == 0
    reads.clear()
    assert kd("compare", recipe, "--trust", "train.steps=2", *options) == 0
    assert (reads[recipe], reads[recipe.parent / "teacher.yaml"]) == (1, 1)
    assert f"kd run {recipe} train.steps=2 --trust --baseline adds it" in capsys.readouterr().out


def test_a_shipped_recipe_has_its_short_name_in_the_command(folder, capsys):
    name = "shapes/mobilenetv3_kl_cwd.yaml"
    assert kd("compare", name, "--no-page") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}: no finished run in runs/mobilenetv3_kl_cwd-")
    assert line.endswith(f"; kd run {name} trains it")


def test_the_demo_reads_its_recipe_once(folder, reads, monkeypatch):
    calls = []
    monkeypatch.setattr("kd.train.session.run_recipe", lambda recipe, **options: calls.append(recipe))
    monkeypatch.setattr("kd.compare.compare_command", lambda targets, **options: calls.extend(targets) or 0)
    assert kd("demo") == 0
    trained, compared = calls
    assert trained is compared
    assert reads[shipped_recipes() / "shapes/mobilenetv3_kl_cwd.yaml"] == 1
