"""Recipes and run directories of version 0.1.0."""

from pathlib import Path

import pytest
from recipe_text import ALONE, read

from kd.recipe import read_recipe
from kd.recipe.moved import first_names

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


def test_a_recipe_with_an_old_name_has_the_same_ids(folder: Path) -> None:
    with pytest.warns(UserWarning, match="is now"):
        old = read(ALONE + OLD)
    new = read(ALONE + NEW)
    assert new.id == old.id
    assert new.old_id == old.old_id == "aed46b8c"  # as version 0.1.0 computed it
    with pytest.warns(UserWarning, match="is now"):
        default = read(ALONE + "schedule: {use: kd.engine.schedule.poly, args: {power: 0.9}}\n")
    assert default.id == read(ALONE).id


def test_a_renamed_convention_is_read_and_keeps_the_id(folder: Path) -> None:
    ickd = "{use: kd.losses.ICKD, args: {convention: house}}"
    term = f"{{loss: {{use: kd.losses.Masked, args: {{near: 1, loss: {ickd}}}}}, at: {{student: low, teacher: low}}}}"
    text = ALONE + f"teacher: {{use: teachers.FCNResNet50}}\ndistill: {{ickd: {term}}}\n"
    with pytest.warns(UserWarning, match="is now") as seen:
        old = read(text)
    assert [str(warning.message) for warning in seen] == [
        "r.yaml:7:71: convention house is now default; update the recipe"
    ]
    assert old.distill["ickd"].loss.args["loss"].args == {"convention": "default"}
    new = read(text.replace("house", "default"))
    assert new.id == old.id
    assert new.old_id == old.old_id == "9f4a78fe"  # as version 0.1.0 computed it


def test_the_recipe_of_a_run_directory_is_read_without_a_warning(folder: Path) -> None:
    Path("r.yaml").write_text(ALONE + OLD)
    assert read_recipe("r.yaml", id="aed46b8c").schedule.use == "kd.schedules.cosine"


def test_only_renamed_components_have_other_first_names() -> None:
    assert first_names({"schedule": {"use": "kd.schedules.poly"}}) == {"schedule": {"use": "kd.engine.schedule.poly"}}
    for same in (
        {"use": "kd.losses.CWD", "args": None},
        {"use": "kd.losses.DSD", "args": {"convention": ["default"]}},  # a mistake, which is reported later
        {"use": "kd.losses.CWD"},
        {"use": "Name"},
        {"use": 3},
        ["kd.schedules.poly"],
        "kd.schedules.poly",
    ):
        assert first_names(same) == same


def test_the_old_id_knows_neither_order_nor_content(folder: Path) -> None:
    """So a run of an old version is found, whatever its inputs were; it is not used again without a line."""
    Path("classes.csv").write_text("sky\nroad\n")
    Path("mine.py").write_text("import helper\nLoss = 1")
    Path("helper.py").write_text("")
    text = ALONE.replace("kd.data.Shapes", "kd.data.Folders, args: {classes: classes.csv, values: {0: sky, 1: road}}")
    text = text.replace("kd.losses.CrossEntropy", "mine.py:Loss")
    first = read(text, trust=True)
    Path("classes.csv").write_text("road\nsky\n")
    Path("helper.py").write_text("edited = True")
    turned = read(text.replace("0: sky, 1: road", "1: road, 0: sky"), trust=True)
    assert (turned.old_id, turned.id == first.id) == (first.old_id, False)
    Path("mine.py").write_text("import helper\nLoss = 2")
    assert read(text, trust=True).old_id != first.old_id
