"""Several runs with one teacher: one process trains it, the others wait and then use it."""

import os
import re

import pytest
from tiny import in_child, read, run, write_recipes

from kd.cli import main
from kd.errors import LockedError
from kd.runs import directory, is_finished, locked, run_directory
from kd.train import session as run_module
from kd.train import waiting


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(waiting, "POLL", 0.05)


def test_three_that_start_together_train_the_teacher_once(tmp_path):
    path = write_recipes(tmp_path)
    children = []
    for lr in (0.1, 0.05, 0.02):
        child = os.fork()
        if child == 0:
            status = 99
            try:
                _, lines = run(read(path, f"optimizer.args.lr={lr}"), tmp_path / "runs")
                (tmp_path / f"lines{lr}").write_text("\n".join(lines))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    texts = [(tmp_path / f"lines{lr}").read_text() for lr in (0.1, 0.05, 0.02)]
    assert sum("nets.py:Net, from labels alone" in text for text in texts) == 1
    assert sum(bool(re.search(r"teacher-\w+/seed0: finished", text)) for text in texts) == 2
    assert len(list((tmp_path / "runs").glob("student-*/seed0/result.json"))) == 3


def test_the_wait_is_reported_once_a_minute(tmp_path, monkeypatch):
    recipe = read(write_recipes(tmp_path))
    teacher = run_directory(recipe.teacher_recipe, tmp_path / "runs", 0)
    monkeypatch.setattr(waiting, "POLL", 1.0)
    lines, sleeps = [], []

    def sleep(seconds):
        sleeps.append(seconds)
        if len(sleeps) == 130:
            raise KeyboardInterrupt

    monkeypatch.setattr(waiting.time, "sleep", sleep)
    monkeypatch.setattr(directory, "LOOK", 0)  # it sleeps too
    with locked(teacher), pytest.raises(KeyboardInterrupt):
        run_module.run_recipe(recipe, runs=tmp_path / "runs", say=lines.append, quiet=True)
    owner = f"{teacher}: in use by process {os.getpid()} on {os.uname().nodename}; waiting for it"
    assert lines == [f"{owner} (0 s)", f"{owner} (60 s)", f"{owner} (2 min)"]


def test_without_waiting_the_status_is_7(tmp_path, capsys):
    path = write_recipes(tmp_path)
    recipe = read(path)
    teacher = run_directory(recipe.teacher_recipe, tmp_path / "runs", 0)
    with locked(teacher):
        with pytest.raises(LockedError, match="in use by process"):
            run(recipe, tmp_path / "runs", wait=False)
        assert main(["run", str(path), "--trust", "--no-wait", "--runs", str(tmp_path / "runs")]) == 7
    assert "wait for it, or stop it first" in capsys.readouterr().err


def test_a_run_itself_is_never_waited_for(tmp_path):
    recipe = read(write_recipes(tmp_path))
    with locked(run_directory(recipe, tmp_path / "runs", 0)), pytest.raises(LockedError, match="student-"):
        run(recipe, tmp_path / "runs")


def test_a_teacher_whose_training_died_is_resumed_by_the_process_that_waited(tmp_path, monkeypatch):
    recipe = read(write_recipes(tmp_path))
    ordinary = run_module.train_run

    def dies():
        monkeypatch.setattr(run_module, "train_run", lambda *_, **__: os._exit(9))
        run(recipe, tmp_path / "runs")

    assert in_child(dies) == 9
    assert run_module.train_run is ordinary
    run(recipe, tmp_path / "runs")
    assert is_finished(run_directory(recipe.teacher_recipe, tmp_path / "runs", 0))
