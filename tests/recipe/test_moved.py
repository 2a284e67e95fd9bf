"""Recipes and run directories of version 0.1.0."""

from pathlib import Path

import pytest
from recipe_text import ALONE, read

from kd.recipe.moved import first_path

OLD = "schedule: {use: kd.engine.schedule.cosine, args: {warmup: 5%}}\n"
NEW = OLD.replace("kd.engine.schedule", "kd.schedules")


def test_an_old_path_is_read_with_one_line_that_gives_the_new_one(folder: Path) -> None:
    term = "{kl: {loss: {use: kd.losses.PixelKL}, weight: {use: kd.engine.schedule.linear}}}"
    text = ALONE + OLD + f"teacher: {{use: teachers.FCNResNet50}}\ndistill: {term}\n"
    with pytest.warns(UserWarning, match="is now") as seen:
        recipe = read(text)
    assert [str(warning.message) for warning in seen] == [
        "r.yaml:6:12: kd.engine.schedule.cosine is now kd.schedules.cosine, "
        "kd.engine.schedule.linear is now kd.schedules.linear; update the recipe"
    ]
    assert recipe.schedule.use == "kd.schedules.cosine"
    assert recipe.distill["kl"].weight.use == "kd.schedules.linear"


def test_a_run_keeps_its_id(folder: Path) -> None:
    with pytest.warns(UserWarning, match="is now"):
        old = read(ALONE + OLD)
    assert read(ALONE + NEW).id == old.id == "aed46b8c"  # as version 0.1.0 computed it
    with pytest.warns(UserWarning, match="is now"):
        default = read(ALONE + "schedule: {use: kd.engine.schedule.poly, args: {power: 0.9}}\n")
    assert default.id == read(ALONE).id


def test_only_moved_components_have_another_first_path() -> None:
    assert first_path("kd.schedules.poly") == "kd.engine.schedule.poly"
    assert first_path("kd.losses.CWD") == "kd.losses.CWD"
    assert first_path("Name") == "Name"
