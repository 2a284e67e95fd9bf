"""Whether the gains of a comparison are fair: equal budgets, and no better baseline among the runs."""

import json
from collections.abc import Iterator
from typing import Any

from kd.compare.comparison import Comparison, Entry, Note
from kd.errors import RecipeError, StorageError
from kd.recipe.identity import Scope
from kd.runs import read_run_recipe

TOLERANCE = 1.02  # budgets of a larger ratio differ
CLEAR = 0.001  # mIoU, a share: what tables show as a tenth of a point


def unequal_budgets(comparison: Comparison) -> Iterator[Note]:
    """Lines on students that saw other numbers of images than their baseline, or one another, or took longer."""
    more, longer, unlike = [], [], []
    students = [student for student in comparison.of_role("student") if student.images_seen]
    least = min(students, key=lambda student: student.images_seen or 0.0, default=None)
    for student in students:
        baseline = comparison.get(student.baseline)
        if baseline is not None:
            more += _seen(comparison, student, baseline)
            ratio = _ratio(student.seconds, baseline.seconds)
            longer += [] if ratio is None else [f"{comparison.label(student)} {ratio:.2f}"]
        if least is not None and (baseline is None or student.baseline != least.baseline):  # of one, `more` has them
            unlike += _seen(comparison, student, least)
    if more:
        yield Note("budget", f"images seen in training, in times the baseline's: {', '.join(more)}")
    if longer:
        line = f"training time, in times the baseline's: {', '.join(longer)} (the training of the teacher is not in it)"
        yield Note("budget", line)
    if least is not None and unlike:
        line = f"images seen in training, in times those of {comparison.label(least)}: {', '.join(unlike)}"
        yield Note("budget", line)


def _seen(comparison: Comparison, student: Entry, other: Entry) -> list[str]:
    """The images that a student saw, in times another network's, with both numbers; nothing for equal ones."""
    ratio = _ratio(student.images_seen, other.images_seen)
    both = f"({student.images_seen or 0:,.0f} and {other.images_seen or 0:,.0f})"
    return [] if ratio is None else [f"{comparison.label(student)} {ratio:.2f} {both}"]


def _ratio(value: float | None, other: float | None) -> float | None:
    """The ratio of two budgets that differ; None for equal ones, and for one that is 0 or unknown."""
    if not value or not other or max(value, other) <= TOLERANCE * min(value, other):
        return None
    return value / other


def weak_baselines(comparison: Comparison) -> dict[str, str]:
    """For each student whose baseline is beaten by a baseline of the same network, data and size: which, and its score.

    By the student's key.
    """
    candidates = [*comparison.of_role("baseline"), *comparison.of_role("alone")]
    if len(candidates) < 2:
        return {}
    subjects = {entry.key: _subject(entry) for entry in candidates}
    weak = {}
    for student in comparison.of_role("student"):
        baseline = comparison.get(student.baseline)
        if baseline is None or (subject := subjects.get(baseline.key)) is None:
            continue
        best = max((entry for entry in candidates if subjects[entry.key] == subject), key=lambda entry: entry.miou)
        if best.miou >= baseline.miou + CLEAR:
            weak[student.key] = f"{comparison.name(best)} reached {100 * best.miou:.1f} %"
    return weak


def _subject(entry: Entry) -> str | None:
    """The network, data and size of a run, as text that is equal where they are; None where they are unknown."""
    try:
        recipe: dict[str, Any] = read_run_recipe(entry.run_dirs[0], trust=True).resolved([Scope.MACHINE, Scope.RUN])
    except (RecipeError, StorageError, IndexError):  # IndexError: a network without a run
        return None
    student, data = recipe["student"], recipe["data"]
    named = [student["use"], student["args"], data["use"], data["args"], data["size"]]
    return json.dumps(named, sort_keys=True, default=str)
