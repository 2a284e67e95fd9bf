"""A run directory that is resumed where nothing else of its recipe is."""

import shutil
from pathlib import Path

import pytest
from command import kd
from manifests import unfinish
from tiny import cut_at, equal, read, run, weights, write_recipes

from kd.runs import is_finished, read_result, read_run_recipe, resumable, run_directory


def move(folder: Path) -> Path:
    """A stopped run in `there/runs`, without its recipe and code."""
    recipe = read(write_recipes(folder / "here"))
    run(read(folder / "here" / "teacher.yaml"), folder / "here" / "runs")
    cut_at(4, recipe, folder / "here" / "runs")
    stopped = run_directory(recipe, folder / "here" / "runs", 0)
    (folder / "there").mkdir()
    (folder / "here" / "runs").rename(folder / "there" / "runs")
    shutil.rmtree(folder / "here")
    return folder / "there" / stopped.relative_to(folder / "here")


def test_it_ends_with_the_bits_of_a_run_that_was_never_moved(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,), _ = run(read(write_recipes(folder)), folder / "whole")
    run_dir = move(folder)
    assert kd("run", run_dir, "--trust", "device=cpu") == 0
    assert "resumes at step 4 of 8" in capsys.readouterr().out
    assert equal(weights(run_dir), weights(whole))
    assert read_result(run_dir).splits == read_result(whole).splits
    assert (read_result(run_dir).name, read_result(run_dir).network) == ("student", "nets.py:Net")
    assert read_result(run_dir).teacher.run == read_result(whole).teacher.run
    assert read_result(run_dir).baseline == read_result(whole).baseline
    assert str(run_dir.parents[2]) not in (run_dir / "result.json").read_text()
    # finished, it is used as it is: by the same command, and as any run
    assert kd("run", run_dir, "--trust") == 0
    assert ": finished (val mIoU " in capsys.readouterr().out
    assert read_run_recipe(run_dir, trust=True).student.use.endswith("nets.py:Net")
    monkeypatch.chdir(run_dir / "checkpoints")
    assert kd("run", "..", "--trust") == 0
    assert ": finished (val mIoU " in capsys.readouterr().out


def test_settings_of_the_run_and_a_teacher_that_is_not_there_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = move(folder)
    assert kd("run", run_dir, "--trust", "train.steps=9") == 2
    assert capsys.readouterr().err == (
        f"<train.steps=9>: changes what {run_dir} trains; name its recipe, or give machine settings alone, such as "
        "data.args.root\n"
    )
    recipe = resumable(run_dir, ["device=cpu"], trust=True)
    assert (recipe.device, recipe.stem, recipe.id) == ("cpu", "student", run_dir.parent.name[-8:])
    assert recipe.train.seeds == (0,)
    assert run_directory(recipe, run_dir.parents[1], 0) == run_dir
    (teacher,) = (run_dir.parents[1]).glob("teacher-*/seed0")
    unfinish(teacher)
    assert kd("run", run_dir, "--trust") == 2
    assert capsys.readouterr().err == (
        f"{run_dir}: its teacher: {teacher}: this run is not finished; kd run {teacher} --trust continues it\n"
    )
    teacher.rename(teacher.with_name("elsewhere"))
    assert kd("run", run_dir, "--trust") == 2
    assert f"its teacher's run {teacher} is missing; copy it there, or run its recipe" in capsys.readouterr().err
    assert not is_finished(run_dir)


@pytest.mark.parametrize("name", ["x", "x-01234567", "x/seed0", "x-01234567/seed0-before-20260101-000000"])
def test_another_folder_is_none(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / name).mkdir(parents=True)
    assert kd("run", name) == 2
    assert capsys.readouterr().err == (
        f"{name}: a folder, but no run directory; name a recipe, or a run such as x-0123abcd/seed0\n"
    )
