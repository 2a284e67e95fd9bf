"""The studies that come with kd: every recipe in them is right, and they ask for the runs that they say."""

from pathlib import Path

import pytest

from kd.recipe.shipped import list_recipes, list_studies
from kd.study.command import check_calls
from kd.study.reader import read_study


@pytest.mark.parametrize("name", list_studies())
def test_every_call_in_a_shipped_study_is_right(name: str) -> None:
    assert name not in list_recipes()
    check_calls(read_study(name, runs=Path("runs")))


def test_the_study_of_camvid_has_36_runs_and_a_teacher(folder: Path) -> None:
    runs = read_study("camvid/study.yaml", runs=Path("runs")).runs()
    assert [run.role for run in runs].count("teacher") == 1
    assert len(runs) == 37
    assert {run.recipe.train.epochs for run in runs if run.role != "teacher"} == {60}
    assert len({(run.recipe.student.use, run.role) for run in runs}) == 1 + 4 * 2
