"""`kd compare`, and the comparison of `kd demo`."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command import kd
from disk import make_read_only, small_disk

from kd.recipe import yaml12
from kd.recipe.shipped.recipes import shipped_recipes


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


def test_on_a_read_only_share_the_table_is_printed_and_the_page_is_not_written(recipe, tmp_path, capsys):
    """A page that was asked for by name is an error; its advice works."""
    with small_disk(tmp_path / "share", kilobytes=4096) as share:
        runs = ("--runs", str(share))
        options = (recipe, "--trust", "train.steps=2", *runs)
        assert kd("run", *options) == 0
        make_read_only(share)
        capsys.readouterr()
        assert kd("compare", *options) == 0
        (student,) = share.glob("student-*/seed0")
        out = capsys.readouterr().out
        assert re.search(r"^The student reaches \d", out)
        reason = "cannot be written (Read-only file system); choose another file with --html FILE"
        assert f"report: not written: {student}/report.html: {reason}" in out.splitlines()
        assert kd("compare", *options, "--html", str(share / "x.html")) == 6
        assert capsys.readouterr().err == f"{share}/x.html: {reason}\n"
        assert kd("compare", *options, "--html", str(tmp_path / "x.html")) == 0
        assert f"report: {tmp_path / 'x.html'}" in capsys.readouterr().out.splitlines()
        assert kd("list", *runs) == 0
