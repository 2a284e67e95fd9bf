import math
import re
import time

import pytest
from tiny import read, run, write_recipes

from kd.cli import main
from kd.engine import plan as planning
from kd.engine.plan import Job, as_seconds, epochs_within, lines, plan
from kd.recipe import RecipeError, baseline_of


def job(recipe, role="student", **changes):
    """1 s a step, 10 s an evaluation; 12 images in batches of 4: 3 steps an epoch."""
    known = {"runs": 2, "steps": 30, "left": 60, "step": 1.0, "evaluation": 10.0, "evaluations": 5}
    known |= {"memory": 2**20, "checkpoint": 10**6, "images": 12} | changes
    return Job(recipe=recipe, role=role, **known)


@pytest.fixture
def recipe(tmp_path):
    return read(write_recipes(tmp_path), "train.steps=null", "train.epochs=10", "train.evaluate_every=20%")


def test_the_plan_is_runs_times_epochs_times_seconds(recipe):
    noon = time.mktime((2030, 1, 2, 12, 0, 0, 0, 0, -1))
    first, total = lines([job(recipe)], now=noon)
    assert first == "plan: student student: 2 runs × 10 epochs × 3 s + 5 evaluations × 10 s = 3 min"  # 2 · (30 + 50) s
    assert total == "plan: 3 min, until about 2030-01-02 12:02; peak memory 1 MB; disk at most 8.0 MB"


def test_what_is_done_is_left_out(recipe):
    half = job(recipe, left=30)
    assert half.seconds() == 80
    assert lines([half])[0].endswith(" = 80 s (50 % are done)")


def test_a_budget_gives_student_and_twin_the_same_epochs(recipe):
    twin = job(baseline_of(recipe), "baseline", step=0.5)
    teacher = job(recipe, "teacher", runs=1, left=30)  # 30 + 50 s
    # 2 · 50 s + 2 · 50 s of evaluations, 2 · 3 s + 2 · 1.5 s an epoch
    assert epochs_within([teacher, job(recipe), twin], 80 + 200 + 9 * 7 + 8, "x") == 7
    with pytest.raises(RecipeError) as caught:
        epochs_within([teacher, job(recipe), twin], 80 + 200 + 8, "--budget")
    assert str(caught.value) == (
        "--budget: not enough for one epoch: 9 s an epoch, 3 min for evaluations, 80 s for teachers; "
        "give more time, fewer seeds, or train the teacher first"
    )


def test_evaluations_every_so_many_steps_grow_with_the_epochs(tmp_path):
    often = read(write_recipes(tmp_path), "train.evaluate_every=3")
    assert epochs_within([job(often, runs=1)], 13 * 4 + 1, "x") == 4  # 3 steps and one evaluation an epoch


@pytest.mark.parametrize(("text", "seconds"), [("6h", 21600), ("90m", 5400), ("1.5h", 5400), ("2d", 172800), ("5s", 5)])
def test_times(text, seconds):
    assert as_seconds(text) == seconds


@pytest.mark.parametrize("text", ["6", "h", "0h", "-1h", "6 h", "six"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match=re.escape(f"must be a time such as 6h, 90m or 2d, got '{text}'")):
        as_seconds(text)


def test_measuring_is_close_writes_nothing_and_knows_what_is_finished(tmp_path, monkeypatch):
    path = write_recipes(tmp_path)
    slow = "        import time; time.sleep(0.01)\n        generator ="
    nets = (tmp_path / "nets.py").read_text()
    (tmp_path / "nets.py").write_text(nets.replace("        generator =", slow))
    recipe = read(path, "train.steps=30", "train.evaluate_every=0")
    jobs = plan(recipe, runs=tmp_path / "runs", baseline=True)
    assert not (tmp_path / "runs").exists()
    assert [(one.role, one.runs, one.steps) for one in jobs] == [
        ("teacher", 1, 8),
        ("student", 1, 30),
        ("baseline", 1, 30),
    ]
    assert all(0.04 < one.step < 0.4 for one in jobs)  # four images of 10 ms each
    assert all(0.12 < one.evaluation < 1.5 for one in jobs)  # twelve
    run(baseline_of(recipe), tmp_path / "runs")
    run(recipe, tmp_path / "runs")
    assert plan(recipe, runs=tmp_path / "runs", baseline=True) == []
    assert lines([]) == ["plan: all is finished"]
    assert len(plan(recipe, runs=tmp_path / "runs", fresh=True)) == 1


def test_measuring_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "SECONDS", 0.0)
    (one,) = plan(baseline_of(read(write_recipes(tmp_path))), runs=tmp_path / "runs")
    assert one.step > 0
    assert math.isfinite(one.evaluation)


def test_the_command_line_prints_the_plan_and_keeps_to_the_budget(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = str(write_recipes(tmp_path))
    assert main(["check", path, "--trust", "--plan"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^plan: student student: 1 run × 2\.67 epochs × ", out, re.MULTILINE)
    assert re.search(r"^plan: baseline student: ", out, re.MULTILINE)
    monkeypatch.setattr(planning, "epochs_within", lambda jobs, budget, where: int(budget))
    assert main(["run", path, "--trust", "--budget", "2s", "teacher=null", "distill=null"]) == 0
    out = capsys.readouterr().out
    assert "--budget: train.epochs=2 train.steps=null\n" in out
    assert "student 6/6" in out  # 2 epochs of 12 images in batches of 4


def test_smoke_tries_everything_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = write_recipes(tmp_path)
    before = set(tmp_path.iterdir())
    began = time.monotonic()
    assert main(["run", str(path), "--trust", "--smoke", "train.steps=100000"]) == 0
    assert time.monotonic() - began < 60
    out = capsys.readouterr().out
    assert "  goes on from step 1 of 2" in out
    assert "val: 8 images" in out
    assert re.search(
        r"student\.yaml: trains, saves, resumes with the same bits, scores and reports; .* is removed", out
    )
    assert {file for file in tmp_path.iterdir() if file.name != "__pycache__"} == before


def test_smoke_finds_a_resume_that_is_not_exact(tmp_path, monkeypatch, capsys):
    path = write_recipes(tmp_path)
    nets = (tmp_path / "nets.py").read_text()
    random = "        import os; images = images + os.urandom(1)[0] / 255\n        low ="
    (tmp_path / "nets.py").write_text(nets.replace("        low =", random))
    assert main(["run", str(path), "--trust", "--smoke"]) == 6
    assert "a resumed run ends with other weights than one that was not stopped" in capsys.readouterr().err
