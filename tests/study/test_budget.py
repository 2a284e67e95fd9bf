"""Equal training time: measured once, the same for all processes, with baselines that train for as long."""

import json
from pathlib import Path

import pytest
from command import kd
from small_study import Here

from kd.errors import StorageError
from kd.files.checked import seal
from kd.recipe import Recipe, read_recipe
from kd.study import board
from kd.study.budget import measure, read_steps
from kd.study.command import measure_times, study_command
from kd.study.reader import Plan, read_study

RUNS = Path("runs")
TEXT = "base: r.yaml\nseeds: [0]\nbudget: {match: time}\nvariants: {kl: {}, two: {distill.kl.weight: 2}}\n"


def plan(text: str = TEXT) -> Plan:
    Path("s.yaml").write_text(text)
    return read_study("s.yaml", runs=RUNS)


def time_of(recipe: Recipe) -> tuple[float, int]:
    """Distilled steps take 0.3 s, and 0.4 s with a weight of 2; those from labels alone 0.2 s. All have 10 steps."""
    weight = recipe.distill["kl"].weight if recipe.distill else 0
    return 0.2 + 0.1 * weight, 10


def measured(text: str = TEXT) -> Plan:
    before = plan(text)
    assert before.unmeasured is not None
    measure(before.unmeasured, before.recipes, time_of)
    return plan(text)


def test_all_train_for_as_long_as_the_first_variant(readable: Path) -> None:
    assert {name: recipe.train.steps for name, recipe in plan().recipes.items()} == dict.fromkeys(
        ("kl", "two", "baseline"), 10
    )
    after = measured()
    assert after.unmeasured is None
    # 10 steps of 0.3 s are 3 s: 7.5 steps of 0.4 s, and 15 of 0.2 s
    assert {name: recipe.train.steps for name, recipe in after.recipes.items()} == {"kl": 10, "two": 8, "baseline": 15}


def test_both_students_are_compared_with_the_baseline_that_trained_as_long(readable: Path) -> None:
    after = measured()
    baseline = after.baselines["baseline"].id
    assert after.pairs == {after.variants["kl"].id: baseline, after.variants["two"].id: baseline}
    assert [run.label for run in after.runs()] == ["teacher/0", "baseline/0", "kl/0", "two/0"]


def test_a_baseline_that_is_a_variant_gets_its_length_too(readable: Path) -> None:
    text = TEXT.replace("{kl: {}", "{kl: {}, plain: {teacher: null, distill: null}")
    after = measured(text)
    assert after.variants["plain"].train.steps == 15
    assert after.baselines == {}
    assert after.pairs[after.variants["two"].id] == after.variants["plain"].id


def test_its_command_trains_the_same_baseline(readable: Path) -> None:
    baseline = measured().baselines["baseline"]
    assert read_recipe(baseline.file, baseline.overrides).id == baseline.id
    assert baseline.teacher is None


def test_students_of_other_networks_have_a_time_of_their_own(readable: Path) -> None:
    text = TEXT.replace("two: {distill", "two: {student.use: students.MobileNetV3SmallASPPLite, distill")
    assert measured(text).variants["two"].train.steps == 10


def test_times_are_measured_once(readable: Path) -> None:
    before = plan()
    assert before.unmeasured is not None
    measure(before.unmeasured, before.recipes, time_of)
    measure(before.unmeasured, before.recipes, lambda recipe: pytest.fail("measured again"))
    assert read_steps(before.unmeasured, before.recipes) == {"kl": 10, "two": 8, "baseline": 15}
    changed = plan(TEXT.replace("weight: 2", "weight: 3"))
    assert changed.unmeasured not in (None, before.unmeasured)  # other recipes: they are measured for themselves


def test_damaged_times_are_a_line(readable: Path) -> None:
    before = plan()
    assert before.unmeasured is not None
    measure(before.unmeasured, before.recipes, time_of)
    text = before.unmeasured.read_text()
    for damaged, what in (
        ('{"format": 1, "seconds": {}}', "cut or changed (it does not end with its own SHA-256)"),
        (text[:-1], "changed after kd wrote it (SHA-256 "),
        (text.replace('"two": 8', '"two": 9'), "changed after kd wrote it (SHA-256 "),
        (text.replace('"two": 8', '"two": 0'), "changed after kd wrote it (SHA-256 "),
    ):
        before.unmeasured.write_text(damaged)
        with pytest.raises(StorageError) as caught:
            plan()
        assert str(caught.value).startswith(f"{before.unmeasured}: {what}")
        assert str(caught.value).endswith("; remove it: the times are measured again")


def test_times_of_other_recipes_are_a_line(readable: Path) -> None:
    other = measured(TEXT.replace("weight: 2", "weight: 3").replace("two", "three"))
    before = plan()
    assert before.unmeasured is not None
    (file,) = (RUNS / "budgets").glob("*.json")
    file.rename(before.unmeasured)
    with pytest.raises(StorageError) as caught:
        plan()
    of_file, of_plan = (
        ", ".join(f"{name} {id}" for name, id in ids)
        for ids in (json.loads(before.unmeasured.read_text())["recipes"].items(),
                    [(name, recipe.id) for name, recipe in before.recipes.items()])
    )  # fmt: skip
    assert [text.split()[0] for text in of_file.split(", ")] == list(other.recipes)
    assert str(caught.value) == (
        f"{before.unmeasured}: is of other recipes ({of_file}, not {of_plan}); remove it: the times are measured again"
    )


def test_times_that_kd_0_5_measured_are_kept_with_a_warning(readable: Path) -> None:
    """Other times would be other lengths, and train all its runs again."""
    before = plan()
    assert before.unmeasured is not None
    content = {"format": 1, "seconds": {"kl": 0.3, "two": 0.4, "baseline": 0.2}}
    content["steps"] = {"kl": 10, "two": 8, "baseline": 15}
    before.unmeasured.parent.mkdir(parents=True)
    before.unmeasured.write_text(json.dumps(content))
    line = rf"^{before.unmeasured}: not verified, because kd 0\.5 wrote no SHA-256 into it$"
    with pytest.warns(UserWarning, match=line):
        after = plan()
    assert {name: recipe.train.steps for name, recipe in after.recipes.items()} == {"kl": 10, "two": 8, "baseline": 15}
    before.unmeasured.write_text(json.dumps(content | {"steps": {"kl": 10, "zwei": 8, "baseline": 15}}))
    with pytest.warns(UserWarning, match=line), pytest.raises(StorageError) as caught:
        plan()
    assert f"{before.unmeasured}: is of other recipes (kl, zwei, baseline, not kl " in str(caught.value)


def test_a_list_before_the_times_are_there_says_so(readable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text(TEXT)
    assert kd("study", "s.yaml", "--list") == 0
    line = "budget: the times are not measured yet, so the lengths are those that the recipes state\n"
    assert capsys.readouterr().out.startswith(line)
    assert not RUNS.exists()


def test_one_run_alone_is_measured_first(readable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the length of its recipe, it would be a run of no row of the study."""
    trained: list[int | None] = []

    def train_only(plan: Plan, label: str, *, runs: Path) -> int:
        trained.append(plan.recipes[label.partition("/")[0]].train.steps)
        return 0

    def measure_times(plan: Plan, *, runs: Path) -> None:
        assert plan.unmeasured is not None
        measure(plan.unmeasured, plan.recipes, time_of)

    monkeypatch.setattr("kd.study.command.train_only", train_only)
    monkeypatch.setattr("kd.study.command.measure_times", measure_times)
    Path("s.yaml").write_text(TEXT)
    assert kd("study", "s.yaml", "--only", "two/0") == 0
    monkeypatch.setattr("kd.study.command.measure_times", lambda plan, **_: pytest.fail("measured again"))
    assert kd("study", "s.yaml", "--only", "baseline/0") == 0
    assert trained == [8, 15]


def test_gains_are_those_over_the_baseline_of_equal_time(
    trainable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kd.study.work.POLL", 0.0)
    monkeypatch.setattr("kd.diagnose.plan.SECONDS", 0.2)
    trainable.write_text(trainable.read_text().replace("[0, 1]", "[0]") + "budget: {match: time}\n")
    before = read_study(trainable, trust=True, runs=RUNS)
    measure_times(before, runs=RUNS, threads=1)
    assert before.unmeasured is not None
    times = json.loads(before.unmeasured.read_text())
    assert set(times["seconds"]) == {"both", "kl", "baseline"}
    times["steps"] = {"both": 8, "kl": 9, "baseline": 12}  # the same on every machine
    before.unmeasured.write_bytes(seal({name: value for name, value in times.items() if name != "sha256"}))
    after = read_study(trainable, trust=True, runs=RUNS)
    study_command(after, runs=RUNS, workers=Here(after))
    assert "student and its baseline" not in capsys.readouterr().out
    found = board.board(after, RUNS)
    assert found is not None
    rows = {row[0]: row for row in board.table(found)[1]}
    assert set(rows) == {"teacher", "baseline", "both", "kl"}
    assert all("±" in rows[name][3] for name in ("both", "kl"))
    (baseline,) = found.comparison.of_role("baseline")
    assert baseline.images_seen == pytest.approx(12 * 4)
