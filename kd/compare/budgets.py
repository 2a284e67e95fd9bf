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
    """A line for students that saw more or fewer images than their baseline, and one for those that took longer."""
    more, longer = [], []
    for student in comparison.of_role("student"):
        baseline = comparison.get(student.baseline)
        if baseline is None or not student.images_seen or not baseline.images_seen:
            continue
        name, ratio = comparison.label(student), _ratio(student.images_seen, baseline.images_seen)
        if ratio is not None:
            more.append(f"{name} {ratio:.2f} ({student.images_seen:,.0f} and {baseline.images_seen:,.0f})")
        if student.seconds and baseline.seconds and (ratio := _ratio(student.seconds, baseline.seconds)) is not None:
            longer.append(f"{name} {ratio:.2f}")
    if more:
        yield Note("budget", f"images seen in training, in times the baseline's: {', '.join(more)}")
    if longer:
        line = f"training time, in times the baseline's: {', '.join(longer)} (the training of the teacher is not in it)"
        yield Note("budget", line)


def _ratio(value: float, other: float) -> float | None:
    """The ratio of two budgets that differ; None for equal ones."""
    return value / other if max(value, other) > TOLERANCE * min(value, other) else None


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
