import math
import re
import tempfile
import time

import pytest
import torch
from clock import Clock
from tiny import read, run, write_recipes

from kd.cli import main
from kd.diagnose import plan as planning
from kd.diagnose.plan import Job, epochs_within, lines, plan
from kd.diagnose.smoke import smoke
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.recipe import baseline_of
from kd.train import phases
from kd.train.auto import measuring
from kd.train.between_steps import evaluation as scoring
from kd.train.session import session
from kd.train.signals import Stop
from kd.units import as_seconds


def job(recipe, role="student", **changes):
    """1 s a step, 10 s an evaluation; 12 images in batches of 4: 3 steps an epoch."""
    known = {"runs": 2, "steps": 30, "left": 60, "step": 1.0, "evaluation": 10.0, "evaluations": 5}
    known |= {"memory": 10**6, "checkpoint": 10**6, "weights": 4 * 10**5, "images": 12} | changes
    return Job(recipe=recipe, role=role, **known)


@pytest.fixture
def recipe(tmp_path):
    return read(write_recipes(tmp_path), "train.steps=null", "train.epochs=10", "train.evaluate_every=20%")


def test_the_plan_is_runs_times_epochs_times_seconds(recipe):
    noon = time.mktime((2030, 1, 2, 12, 0, 0, 0, 0, -1))
    first, total = lines([job(recipe)], now=noon)
    assert first == "plan: student student: 2 runs × 10 epochs × 3 s + 5 evaluations × 10 s = 3 min"  # 2 · (30 + 50) s
    assert (
        total
        == "plan: 3 min, until about 2030-01-02 12:02; peak memory 1 MB; checkpoints and weights at most 7.8 MB on disk"
    )


def test_the_disk_holds_what_finished_runs_keep_and_the_checkpoints_of_one_that_trains(recipe, tmp_path):
    """Checkpoints of 1 MB, weights of 0.4 MB; a finished run keeps three checkpoints, or none."""
    forgets = read(tmp_path / "student.yaml", "train.checkpoints=unfinished")
    for jobs, most in (
        ([job(recipe, runs=3)], 3 * 3.4 + 1),
        ([job(forgets, runs=3)], 3 * 0.4 + 3.6),
        ([job(forgets, runs=3), job(forgets, runs=1, checkpoint=2 * 10**6)], 4 * 0.4 + 7.6),
    ):
        assert f"checkpoints and weights at most {most:.1f} MB on disk" in lines(jobs)[-1]


def test_finished_steps_are_left_out(recipe):
    half = job(recipe, left=30)
    assert half.seconds() == 80
    assert lines([half])[0].endswith(" = 80 s (50 % done)")


CACHED = {"cached": 0.25, "cached_left": 2 * (30 - 6), "cache": 3 * 10**6}  # 2 views: 6 steps fill it


def test_a_plan_with_a_cache_shows_its_time_without_it(recipe, tmp_path):
    with_cache = read(tmp_path / "student.yaml", "train.steps=null", "train.epochs=10", "cache={views: 2}")
    student = job(with_cache, **CACHED)
    assert (student.seconds(), student.seconds(cached=False)) == (2 * (6 + 24 * 0.25 + 50), 2 * (30 + 50))
    noon = time.mktime((2030, 1, 2, 12, 0, 0, 0, 0, -1))
    first, total = lines([student], now=noon)
    assert first == (
        "plan: student student: 2 runs × 10 epochs × 3 s (0.75 s from the cache) + 5 evaluations × 10 s = 2 min"
    )
    assert total == (
        "plan: 2 min (3 min without the cache), until about 2030-01-02 12:02; peak memory 1 MB; "
        "checkpoints and weights at most 7.8 MB on disk and 6.0 MB for the cache"
    )


def test_a_budget_accounts_for_the_cache(recipe, tmp_path):
    student = job(read(tmp_path / "student.yaml", "cache={views: 2}", "train.evaluate_every=20%"), runs=1, **CACHED)
    assert student.seconds_of(4) == 6 + 6 * 0.25 + 50
    assert student.seconds_of(1) == 3 + 50  # still filling
    assert [epochs_within([student], budget, "x") for budget in (58.2, 58.25)] == [4, 5]


def test_a_budget_gives_student_and_baseline_the_same_epochs(recipe):
    baseline = job(baseline_of(recipe), "baseline", step=0.5)
    teacher = job(recipe, "teacher", runs=1, left=30)  # 30 + 50 s
    # 2 · 50 s + 2 · 50 s of evaluations, 2 · 3 s + 2 · 1.5 s an epoch
    assert epochs_within([teacher, job(recipe), baseline], 80 + 200 + 9 * 7 + 8, "x") == 7
    with pytest.raises(RecipeError) as caught:
        epochs_within([teacher, job(recipe), baseline], 80 + 200 + 8, "--budget")
    assert str(caught.value) == (
        "--budget: not enough for one epoch: 9 s an epoch, 3 min for evaluations, 80 s for teachers; "
        "give more time or fewer seeds, or train the teacher first"
    )


def test_evaluations_at_a_fixed_interval_grow_with_the_epochs(tmp_path):
    often = read(write_recipes(tmp_path), "train.evaluate_every=3")
    assert epochs_within([job(often, runs=1)], 13 * 4 + 1, "x") == 4  # 3 steps and one evaluation an epoch


@pytest.mark.parametrize(("text", "seconds"), [("6h", 21600), ("90m", 5400), ("1.5h", 5400), ("2d", 172800), ("5s", 5)])
def test_times(text, seconds):
    assert as_seconds(text) == seconds


@pytest.mark.parametrize("text", ["6", "h", "0h", "-1h", "6 h", "six"])
def test_other_texts_are_not_times(text):
    with pytest.raises(ValueError, match=re.escape(f"must be a time such as 6h, 90m or 2d, got '{text}'")):
        as_seconds(text)


def planned(recipe, folder, **options):
    with session(recipe, runs=folder / "runs", quiet=True) as opened:
        return plan(recipe, opened, **options)


def test_measuring_is_close_writes_nothing_and_leaves_out_finished_runs(tmp_path, monkeypatch):
    path = write_recipes(tmp_path)
    slow = "        import time; time.sleep(0.01)\n        generator ="
    nets = (tmp_path / "nets.py").read_text()
    (tmp_path / "nets.py").write_text(nets.replace("        generator =", slow))
    recipe = read(path, "train.steps=30", "train.evaluate_every=0")
    with monkeypatch.context() as patched:
        Clock(patched)
        jobs = planned(recipe, tmp_path, baseline=True)
    assert not (tmp_path / "runs").exists()
    assert [(job.role, job.runs, job.steps) for job in jobs] == [
        ("teacher", 1, 8),
        ("student", 1, 30),
        ("baseline", 1, 30),
    ]
    assert [job.step for job in jobs] == pytest.approx([0.04] * 3)  # four images of 10 ms each
    assert [job.evaluation for job in jobs] == pytest.approx([0.12] * 3)  # twelve
    run(baseline_of(recipe), tmp_path / "runs")
    run(recipe, tmp_path / "runs")
    assert planned(recipe, tmp_path, baseline=True) == []
    assert lines([]) == ["plan: everything is finished"]
    assert len(planned(recipe, tmp_path, fresh=True)) == 1


def test_the_cache_is_measured_with_one_batch_and_leaves_nothing(tmp_path, monkeypatch):
    path = write_recipes(tmp_path)
    slow = "        if self.conv.out_channels == 8: __import__('time').sleep(0.1)\n        low ="
    nets = (tmp_path / "nets.py").read_text()
    (tmp_path / "nets.py").write_text(nets.replace("        low =", slow))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    recipe = read(path, "cache={views: 2}", "train.steps=30")
    with monkeypatch.context() as patched:
        Clock(patched)
        jobs = planned(recipe, tmp_path, baseline=True)
    teacher, student, baseline = jobs
    assert (teacher.cached, baseline.cached, baseline.cached_left) == (None, None, 0)
    assert student.step - student.cached == pytest.approx(0.1)
    assert student.cached_left == 30 - 6  # 2 views of 12 images in batches of 4
    # of a view of an image: 2 logits and 8 channels on 8 × 8 pixels in float16, each with two sums
    assert student.cache == 12 * 2 * (2 * 64 * 2 + 8 * 64 * 2 + 2 * 16)
    assert not (tmp_path / "teacher-cache").exists()
    assert list((tmp_path / "temporary").glob("kd-plan-*")) == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ["student beside teacher"]),
        (["evaluate.agreement=false"], ["student"]),
        (["train.ema=0.5"], ["average beside teacher", "student"]),
        (["teacher={ema: 0.5}"], ["student beside average", "average"]),
    ],
)
def test_an_evaluation_is_measured_with_the_networks_that_it_scores(tmp_path, monkeypatch, overrides, expected):
    """With a moving average there are two networks to score; both are timed, and training scores the same two."""
    recipe = read(write_recipes(tmp_path), "distill.hint=null", *overrides)
    if recipe.teacher_recipe is not None:
        run(recipe.teacher_recipe, tmp_path / "runs")
    parts = assemble(recipe, runs=tmp_path / "runs", seed=0)
    names = {parts.teacher.network: "teacher", parts.student.network: "student", None: None}
    names |= {parts.ema.module: "average"} if parts.ema else {}
    ordinary, seen = scoring.score_beside, []

    def watched(network, teacher, *arguments, **options):
        seen.append(names[network] + (f" beside {names[teacher]}" if teacher else ""))
        return ordinary(network, teacher, *arguments, **options)

    monkeypatch.setattr(scoring, "score_beside", watched)
    measuring.time_evaluation(parts, 9.0)
    scoring.evaluation(parts, Stop())
    assert seen == expected * 2
    monkeypatch.setattr(measuring, "_time_score", lambda *_: 3.0)
    assert measuring.time_evaluation(parts, 9.0) == 3.0 * len(expected)


def test_measuring_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "SECONDS", 0.0)
    (baseline,) = planned(baseline_of(read(write_recipes(tmp_path))), tmp_path)
    assert baseline.step > 0
    assert math.isfinite(baseline.evaluation)


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
    assert main(["run", str(path), "--trust", "--smoke", "train.steps=100000000"]) == 0  # all would take a day
    out = capsys.readouterr().out
    assert "  resumes at step 1 of 2" in out
    assert "val: 8 images" in out
    assert re.search(
        r"student\.yaml: trains, saves, resumes with the same bits, scores and reports; .* is removed", out
    )
    assert {file for file in tmp_path.iterdir() if file.name != "__pycache__"} == before


def test_smoke_enters_every_phase_and_warms_up_within_its_steps(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = write_recipes(tmp_path)
    (run_dir,), _ = run(baseline_of(read(path)), tmp_path / "runs")
    entered, ordinary = [], phases.Phases.enter

    def enter(self, step, student):
        student = ordinary(self, step, student)
        named = self._student.network.named_parameters()
        trains = {name.split(".")[0] for name, parameter in named if parameter.requires_grad}
        entered.append((step, sorted({"conv", "norm", "head"} - trains)))
        return student

    monkeypatch.setattr(phases.Phases, "enter", enter)
    overrides = [
        "phases=[{until: 5, freeze: [conv, norm]}, {until: 90%, freeze: conv}, {lr: 1e-3}]",
        f"student.weights={run_dir}",
        "distill.hint=null",
        "schedule={use: kd.schedules.poly, args: {warmup: 500}}",
        "train.steps=100000",
    ]
    assert main(["run", str(path), "--trust", "--smoke", *overrides]) == 0
    resumed = [(1, ["conv"]), (2, [])]  # in the phase of its last step first
    assert entered == [(0, ["conv", "norm"]), (1, ["conv"]), (2, []), *resumed]
    assert "  resumes at step 2 of 3" in capsys.readouterr().out


def test_smoke_tries_the_cache_in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = read(write_recipes(tmp_path), "cache={views: 2}")
    smoke(recipe, runs=tmp_path / "trial")
    (file,) = (tmp_path / "trial" / "teacher-cache").glob("*/logits-*.sums")
    sums = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.int64).view(12 * 2, 2)
    assert (sums[:, 1] != 0).sum() == 2 * 4  # two steps of four images
    assert not (tmp_path / "teacher-cache").exists()


def test_smoke_finds_a_resume_that_is_not_exact(tmp_path, monkeypatch, capsys):
    path = write_recipes(tmp_path)
    nets = (tmp_path / "nets.py").read_text()
    random = "        import os; images = images + os.urandom(1)[0] / 255\n        low ="
    (tmp_path / "nets.py").write_text(nets.replace("        low =", random))
    assert main(["run", str(path), "--trust", "--smoke"]) == 6
    assert "the resumed run ends with other weights than the uninterrupted one" in capsys.readouterr().err
