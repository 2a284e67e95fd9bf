"""What is a row of a comparison, and which teacher's scores belong to it."""

from pathlib import Path
from typing import Any

import pytest

from kd.compare.answer import decision, headline, warnings
from kd.compare.gathering.gather import gather
from kd.compare.page.report import _cost
from kd.compare.tables import interval
from kd.runs import TeacherResult

ASSISTANT, STUDENT = "asst-dddddddd", "small_kl-cccccccc"


def rows(comparison):
    return [(entry.role, entry.key, entry.seeds) for entry in comparison.entries]


def texts(comparison, kind):
    return [note.text for note in comparison.notes if note.kind == kind]


def taught_by(run: str | Path | None, val: Any, name: str = "big") -> TeacherResult:
    return TeacherResult(name, "teachers.Big", None if run is None else str(run), 40_000_000, {"val": val})


def chain(made):
    """A teacher of an assistant of two seeds, the first of which teaches a student."""
    made.teacher()
    made.baseline()
    made.write("asst_base-eeeeeeee", 82)
    for seed in (0, 1):
        teacher = taught_by("big-aaaaaaaa/seed0", made.split(95))
        made.student(90 - seed, name=ASSISTANT, seed=seed, teacher=teacher, baseline="asst_base-eeeeeeee")
    made.student(87, teacher=taught_by(f"{ASSISTANT}/seed0", made.split(90), "asst"))


@pytest.mark.parametrize("order", [(ASSISTANT, STUDENT), (STUDENT, ASSISTANT)])
def test_an_assistant_is_a_student_and_a_teacher_in_any_order(made, order):
    chain(made)
    comparison = gather([made.folder / name for name in order])
    assert sorted(rows(comparison)) == [
        ("baseline", "asst_base-eeeeeeee", (0,)),
        ("baseline", "small_kl-bbbbbbbb", (0,)),
        ("student", ASSISTANT, (0, 1)),
        ("student", STUDENT, (0,)),
        ("teacher", f"{ASSISTANT} as teacher", (0,)),
        ("teacher", "big-aaaaaaaa", (0,)),
    ]
    assistant, student = map(comparison.get, (ASSISTANT, STUDENT))
    assert (assistant.teacher, student.teacher) == ("big-aaaaaaaa", f"{ASSISTANT} as teacher")
    assert set(comparison.gains) == {ASSISTANT, STUDENT}
    assert len(decision(comparison)) == 2


def test_a_run_in_two_rows_costs_its_training_once(made):
    """The teacher's minute, and 672 s of each of five runs; the assistant is in two rows."""
    chain(made)
    assert "57 min in all, evaluations included." in _cost(gather([made.folder / ASSISTANT, made.folder / STUDENT]))


def self_taught(made):
    """Three seeds of a baseline, the first of which teaches the same network."""
    for seed, right in enumerate((70, 80, 90)):
        made.baseline(seed=seed, val=made.counted(right, right - 1, right + 1, right))
    for seed in range(3):
        teacher = taught_by("small_kl-bbbbbbbb/seed0", made.counted(70, 69, 71, 70), "small_kl")
        made.student(0, seed=seed, val=made.counted(85, 84, 86, 85), teacher=teacher)


def test_a_baseline_that_teaches_is_compared_by_the_seed_that_taught(made):
    self_taught(made)
    comparison = gather([made.folder / STUDENT, made.folder / "small_kl-bbbbbbbb"])
    assert rows(comparison) == [
        ("teacher", "small_kl-bbbbbbbb as teacher", (0,)),
        ("baseline", "small_kl-bbbbbbbb", (0, 1, 2)),
        ("student", STUDENT, (0, 1, 2)),
    ]
    difference = comparison.to_teacher(comparison.get(STUDENT))
    assert difference.value == pytest.approx(85 / 115 - 70 / 130)
    assert difference.interval.value == pytest.approx(difference.value)
    assert decision(comparison)[0].startswith("Decision: take the student: it is 20.1 ± ")
    assert warnings(comparison) == [
        "warning: the teacher (53.8 % mIoU) is not better than the baseline (67.4 %); train a better teacher first"
    ]


def test_each_seed_has_the_teacher_that_taught_it(made):
    """A teacher is trained again, into the same directory, after it taught the first seed."""
    made.teacher()
    for seed, right in enumerate((95, 85, 85)):
        made.baseline(seed=seed, val=made.counted(*[70, 72, 74, 76] * 6))
        teacher = taught_by("big-aaaaaaaa/seed0", made.counted(*[right] * 24))
        made.student(0, seed=seed, val=made.counted(*[80, 81, 82, 83] * 6), teacher=teacher)
    comparison = gather([made.folder / STUDENT])
    student = comparison.get(STUDENT)
    difference = comparison.to_teacher(student)
    taught = (95 / 105 + 2 * 85 / 115) / 3
    assert difference.before == pytest.approx(taught)
    assert difference.interval.value == pytest.approx(difference.value)
    assert interval(difference).startswith("−10.7 ± ")
    assert f" of the {100 * (taught - 73 / 127):.1f} points between baseline and teacher (" in headline(comparison)[0]
    assert texts(comparison, "teacher") == [
        "small_kl: big-aaaaaaaa/seed0 was trained again between its seeds (mIoU 90.5, 73.9, 73.9 %); each seed is "
        "compared with its own teacher"
    ]


def test_a_lead_is_that_of_the_seeds_of_the_gain(made):
    for seed, right in ((0, 95), (1, 80)):
        made.student(85, seed=seed, teacher=taught_by(f"big-aaaaaaaa/seed{seed}", made.split(right)))
    made.baseline(70, seed=1)
    comparison = gather([made.folder / STUDENT])
    assert comparison.lead(comparison.get(STUDENT)) == pytest.approx(80 / 120 - 70 / 130)
    assert texts(comparison, "teacher") == []  # two teachers, each once


def test_a_recipe_in_two_folders_is_two_rows_each_beside_its_own_baseline(made, runs_in, tmp_path):
    other = runs_in(tmp_path / "other" / "runs")
    for where, ours, theirs in ((made, 90, 80), (other, 70, 60)):
        where.teacher()
        where.baseline(theirs)
        where.student(ours)
    comparison = gather([made.folder / STUDENT, other.folder / STUDENT])
    places = [f"{tmp_path.name}/runs", "other/runs"]
    assert [key for _, key, _ in rows(comparison)] == [
        f"{name} in {place}" for name in ("big-aaaaaaaa", "small_kl-bbbbbbbb", STUDENT) for place in places
    ]
    gains = [comparison.gains[f"{STUDENT} in {place}"].value for place in places]
    assert gains == pytest.approx([90 / 110 - 80 / 120, 70 / 130 - 60 / 140])
    assert [comparison.name(student) for student in comparison.of_role("student")] == [
        f"cccccccc in {place}" for place in places
    ]
    alone = gather([made.folder / "small_kl-bbbbbbbb", other.folder / "small_kl-bbbbbbbb"])
    assert [entry.miou for entry in alone.entries] == pytest.approx([80 / 120, 60 / 140])


@pytest.mark.parametrize("first", [0, 1])
def test_a_baseline_beside_another_target_serves_a_student_without_one(made, runs_in, tmp_path, first):
    other = runs_in(tmp_path / "other")
    made.baseline()
    made.student()
    targets = [made.folder / STUDENT, other.student(name="small_cwd-dddddddd")]
    comparison = gather(targets if first == 0 else targets[::-1])
    assert len(comparison.of_role("baseline")) == 1
    assert len(comparison.gains) == 2


def test_a_teacher_is_one_in_runs_of_old_and_new_versions(made):
    """kd 0.3 and older wrote its path."""
    made.teacher()
    for seed, run in enumerate((made.folder / "big-aaaaaaaa/seed0", "big-aaaaaaaa/seed0", "/gone/big-aaaaaaaa/seed0")):
        made.student(90, seed=seed, teacher=taught_by(run, made.split(95)))
    comparison = gather([made.folder / STUDENT])
    teacher = comparison.entries[0]
    assert (teacher.key, len(teacher.splits), teacher.seeds) == ("big-aaaaaaaa", 1, (0,))
    assert '<td class="number" data-value="60.0" data-title="trained, all">60 s' in _cost(comparison)


def test_further_seeds_of_a_teacher_that_is_a_target_are_a_row(made):
    for seed in (0, 1):
        made.write("big-aaaaaaaa", 95, seed=seed)
    made.student()
    comparison = gather([made.folder / "big-aaaaaaaa", made.folder / STUDENT])
    assert rows(comparison) == [
        ("teacher", "big-aaaaaaaa as teacher", (0,)),
        ("alone", "big-aaaaaaaa", (0, 1)),
        ("student", STUDENT, (0,)),
    ]


def test_a_teacher_without_a_run_and_one_of_another_score_are_two(made):
    made.student(teacher=taught_by(None, made.split(95)))
    made.student(name="small_cwd-dddddddd", teacher=taught_by(None, made.split(94)))
    comparison = gather([made.folder / STUDENT, made.folder / "small_cwd-dddddddd"])
    assert [entry.key for entry in comparison.of_role("teacher")] == ["big", "big for small_cwd-dddddddd"]
    assert [comparison.name(entry) for entry in comparison.of_role("teacher")] == ["big", "big for small_cwd-dddddddd"]


def test_a_study_names_a_teacher_that_is_a_variant_by_both(made):
    chain(made)
    names = {"aaaaaaaa": "teacher", "dddddddd": "asst", "cccccccc": "small", "bbbbbbbb": "b", "eeeeeeee": "e"}
    comparison = gather([made.folder / ASSISTANT, made.folder / STUDENT], names=names)
    assert sorted(map(comparison.name, comparison.entries)) == ["asst", "asst as teacher", "b", "e", "small", "teacher"]
