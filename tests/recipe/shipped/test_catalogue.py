"""The components read from source are those that an import finds."""

import importlib
import inspect
import json
import re
from typing import Any

import pytest
import torch

from kd.components.build import REFUSED
from kd.recipe import json_schema, read_recipe
from kd.recipe.schema import components
from kd.recipe.shipped.catalogue import FAMILIES, OPTIMIZERS, entries
from kd.recipe.shipped.recipes import list_recipes, shipped_recipes


def imported(name: str) -> Any:
    module, _, member = name.rpartition(".")
    return getattr(importlib.import_module(module), member)


def first_line(component: Any) -> str:
    return (inspect.getdoc(component) or "").partition("\n")[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_summaries_are_those_of_the_imported_components(family: str) -> None:
    for entry in entries(family):
        assert entry.summary == first_line(imported(entry.name)) != "", entry.name


@pytest.mark.parametrize(
    "families", [["losses"], ["networks"], ["datasets", "transforms"], ["adapters"], ["schedules"]]
)
def test_no_component_is_left_out(families: list[str]) -> None:
    listed = sorted(entry.name for family in families for entry in entries(family))
    public = [
        f"{module}.{name}"
        for module in FAMILIES[families[0]].modules
        for name in importlib.import_module(module).__all__
    ]
    assert listed == sorted(public)


def test_metrics_are_the_classes_that_score() -> None:
    public = importlib.import_module("kd.metrics").__all__
    score = [name for name in public if hasattr(imported(f"kd.metrics.{name}"), "update") and name != "Metric"]
    assert [entry.name for entry in entries("metrics")] == [f"kd.metrics.{name}" for name in sorted(score)]


def test_losses_state_what_they_read() -> None:
    for entry in entries("losses"):
        assert entry.reads == getattr(imported(entry.name), "compares", "labels"), entry.name


def test_datasets_take_a_split_and_transforms_do_not() -> None:
    for family, takes in (("datasets", True), ("transforms", False)):
        for entry in entries(family):
            assert ("split" in inspect.signature(imported(entry.name)).parameters) is takes, entry.name


def test_the_optimizers_are_torchs() -> None:
    for name in OPTIMIZERS:
        assert issubclass(getattr(torch.optim, name), torch.optim.Optimizer)
        assert name not in REFUSED


def offered(section: str) -> tuple[list[str], re.Pattern[str]]:
    """The names that the schema proposes in a section, and the pattern of what else it takes."""
    names, other, *_ = json_schema()["$defs"][section]["properties"]["use"]["anyOf"]
    return names["enum"], re.compile(other["pattern"])


def test_the_schema_proposes_what_fits_at_each_place() -> None:
    assert "kd.losses.CWD" in offered("Loss")[0]
    assert "kd.losses.Dice" not in offered("Loss")[0]
    assert "kd.losses.Dice" in offered("SupervisedConfig")[0]
    assert "kd.data.RandomFlip" in offered("Transform")[0]
    assert "kd.data.CamVid" in offered("DataConfig")[0]
    assert "kd.adapters.Conv1x1" in offered("Adapter")[0]
    assert "kd.schedules.poly" in offered("Schedule")[0]
    assert "kd.metrics.BoundaryIoU" in offered("Metric")[0]
    assert "torch.optim.SGD" in offered("OptimizerConfig")[0]
    assert "students.MobileNetV2UNet" in offered("TeacherConfig")[0]
    assert "teachers.FCNResNet50" in offered("StudentConfig")[0]


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("mine.py:Loss", True),
        ("../other folder/mine.py:Loss", True),
        ("package.module.Name", True),
        ("torch.nn.CrossEntropyLoss", True),
        ("torch.optim.Adagard", True),  # a newer torch may have it
        ("kd.losses.feature.cwd.CWD", True),
        ("kd.losses.CWDD", False),
        ("students.MobileNet", False),
        ("kd.data.CamVid", False),  # known, but not where only this pattern fits
        ("CWD", False),
    ],
)
def test_the_schema_takes_other_components_too(text: str, allowed: bool) -> None:
    for section in ("Loss", "StudentConfig", "OptimizerConfig"):
        assert bool(offered(section)[1].search(text)) == allowed


def test_the_schema_takes_every_component_of_the_shipped_recipes() -> None:
    parts = ("Loss", "Adapter", "Schedule", "Transform", "Metric")
    sections = ("StudentConfig", "DataConfig", "SupervisedConfig", "OptimizerConfig")
    known = {name for section in (*parts, *sections) for name in offered(section)[0]}
    for name in list_recipes():
        assert {use.use for use in components(read_recipe(shipped_recipes() / name))} <= known


def test_no_place_is_left_that_takes_a_component_of_any_family() -> None:
    assert '"#/$defs/Use"' not in json.dumps(json_schema())
