"""The studies that come with kd: every recipe in them is right, and they ask for the runs that they say."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import kd.losses
from kd.parts.checks.calls import check_calls
from kd.recipe.shipped.recipes import list_recipes, list_studies, shipped_recipes
from kd.study.reader import Plan, read_study
from kd.study.schema import Study

DOCS = Path(__file__).parents[2] / "docs"


@cache
def shipped(name: str) -> Plan:
    """A study that comes with kd, read once for all tests."""
    return read_study(name, runs=Path("runs"))


@pytest.mark.parametrize("name", list_studies())
def test_every_call_in_a_shipped_study_is_right(name: str) -> None:
    assert name not in list_recipes()
    check_calls(*shipped(name).recipes.values(), runs=Path("runs"))


def test_the_study_of_camvid_has_36_runs_and_a_teacher(folder: Path) -> None:
    runs = shipped("camvid/study.yaml").runs()
    assert [run.role for run in runs].count("teacher") == 1
    assert len(runs) == 37
    assert {run.recipe.train.epochs for run in runs if run.role != "teacher"} == {60}
    assert len({(run.recipe.student.use, run.role) for run in runs}) == 1 + 4 * 2


def test_the_study_of_losses_has_each_loss_by_the_first_fragment_of_its_page(folder: Path) -> None:
    """What differs is the weight, which a rule sets, and `pixels`: the terms use the images without labels too."""
    variants = shipped("shapes/losses_study.yaml").study.variants
    measured = variants.keys() & set(kd.losses.__all__)  # a loss of tomorrow needs no runs
    assert variants.keys() - measured == {"CWD of features", "baseline × 1.5", "baseline × 2", "baseline × 3"}
    for name in measured:
        stem = getattr(kd.losses, name).__module__.rpartition(".")[2]
        text = (DOCS / "methods" / f"{stem}.md").read_text(encoding="utf-8")
        fragments = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
        section, theirs = next(pair for each in fragments for pair in each.items() if loss_of(pair[1]) == name)
        ours = variants[name][section]
        if section == "distill":
            (ours,), (theirs,) = ours.values(), theirs.values()
            theirs |= {"pixels": "all", "weight": ours["weight"]}
        assert ours == theirs, name


def loss_of(section: dict[str, Any]) -> str:
    """The loss of a fragment."""
    loss = section if "use" in section else next(iter(section.values()))["loss"]
    return str(loss["use"]).rpartition(".")[2]


def test_the_measured_steps_are_those_of_the_study(folder: Path) -> None:
    plan = shipped("shapes/losses_study.yaml")
    measured = json.loads((DOCS / "results" / "data" / "losses" / "steps.json").read_text(encoding="utf-8"))
    found = {name: variant["run"] for name, variant in measured["variants"].items()}
    assert found == {name: f"{recipe.stem}-{recipe.id}" for name, recipe in plan.recipes.items()}


def test_the_page_lists_every_key_of_a_study() -> None:
    page = (DOCS / "studies.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").partition(" | ") for line in page.splitlines() if line.startswith("| `")]
    listed = {name.strip("`"): meaning for name, _, meaning in rows}
    assert list(listed) == list(Study.model_fields)
    for name, field in Study.model_fields.items():
        assert field.description is not None
        assert listed[name].startswith(field.description.partition("; null")[0]), name


def test_the_example_of_the_page_is_a_study(folder: Path) -> None:
    page = (DOCS / "studies.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    for name in ("mobilenetv3_aspp_kl_cwd.yaml", "mobilenetv3_aspp_dist.yaml", "teacher_deeplabv3plus.yaml"):
        (folder / name).write_text((shipped_recipes() / "camvid" / name).read_text())
    (folder / "my_study.yaml").write_text(text)
    study = read_study("my_study.yaml", runs=Path("runs"))
    assert list(study.variants) == ["kl", "kl cwd", "lite kl cwd", "other"]
    assert {recipe.train.epochs for recipe in study.recipes.values()} == {60}
    check_calls(*study.recipes.values(), runs=Path("runs"))
