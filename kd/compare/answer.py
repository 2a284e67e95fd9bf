"""A comparison in sentences: what a reader must know first, the effect of distillation, and which network to take."""

import math
from collections.abc import Iterator

from kd.compare import tables
from kd.compare.comparison import Comparison, Entry
from kd.intervals import Interval
from kd.units import percent

CLOSE, FAR = 2.0, 5.0  # points of the teacher's lead: below the first take the student, above the second the teacher
WORST = 3  # classes that the decision names


def warnings(comparison: Comparison) -> list[str]:
    """What a reader should know before any number: other data, a teacher that cannot be expected to help."""
    lines = [*comparison.other_data, *dict.fromkeys(_on_teachers(comparison))]
    for weak in dict.fromkeys(comparison.weak.values()):
        names = ", ".join(
            comparison.label(e) for e in comparison.of_role("student") if comparison.weak.get(e.key) == weak
        )
        lines.append(f"weak baseline{tables.WEAK}: {weak} with the same network, data and size ({names})")
    return lines


def _on_teachers(comparison: Comparison) -> Iterator[str]:
    """A line for each student whose teacher is not better than its baseline, over the seeds of its gain."""
    for student in comparison.of_role("student"):
        teacher, baseline = comparison.get(student.teacher), comparison.get(student.baseline)
        if teacher is None or baseline is None:
            continue
        gain, lead = comparison.gain(student), comparison.lead(student)
        before = baseline.miou if gain is None else gain.before
        after = teacher.miou if lead is None else before + lead
        if not tables.is_gain(after - before):
            yield (
                f"warning: the teacher ({percent(after)} % {comparison.score}) is not better than "
                f"the baseline ({percent(before)} %); train a better teacher first"
            )


def headline(comparison: Comparison) -> list[str]:
    """The effect of distillation, one sentence a student: first that of the best."""
    students = comparison.best_first
    if not students:
        number = len(comparison.entries)
        return [f"{number} network{'s' * (number > 1)} on the same {tables.images(comparison)}"]
    return [_sentence(comparison, student, name=len(students) > 1) for student in students]


def _sentence(comparison: Comparison, student: Entry, *, name: bool) -> str:
    baseline, teacher = comparison.get(student.baseline), comparison.get(student.teacher)
    if baseline is None:
        subject = comparison.name(student) if name else "The student"
        reached = f"{subject} reaches {percent(student.miou)} % {comparison.score}"
        if comparison.score == "agreement":
            return f"{reached} with its teacher: val has no labels"
        below = "" if teacher is None else f", the teacher {percent(teacher.miou)} %"
        return f"{reached}{below}; without a baseline, the effect of distillation is unknown"
    distillation = f"{comparison.name(student)}: distillation" if name else "Distillation"
    difference = comparison.gain(student)
    if difference is None:
        return f"{distillation}: its effect is unknown, student and baseline have no seed in common"
    before, after = percent(difference.before), percent(difference.before + difference.value)
    numbers = f"({before} → {after} % {comparison.score})"
    gap = comparison.lead(student)
    gain = tables.in_points(difference.value)
    if gain is None:
        return f"{distillation}: its effect is not defined {numbers}"
    certain = comparison.is_certain(student)
    between = _within(difference.interval, certain, len(comparison.adjusted))
    above = f"; the teacher is {percent(gap)} points above the baseline" if tables.is_gain(gap) else ""
    if not certain:
        effect = f"changed the {comparison.score} by {tables.points(difference.value)} points"
    elif gain <= 0:
        effect = f"cost {-gain:.1f} points" if gain < 0 else "changed nothing"
    elif (lead := tables.in_points(gap)) is None or lead < gain:  # the student ends above its teacher
        effect = f"gained {gain:.1f} points"
    else:
        share, above = comparison.closed.get(student.key), ""
        closed = "" if share is None else f" ({100 * share.value:.0f} ± {100 * share.half_width:.0f} %)"
        effect = f"gained {gain:.1f} of the {percent(gap)} points between baseline and teacher{closed}"
    return f"{distillation} {effect} {numbers}{between}{above}"


def decision(comparison: Comparison) -> list[str]:
    """Which network to take, one sentence for the best student of each teacher.

    The teacher less than 2 points ahead: the student; more than 5: the teacher; between them the classes decide. A
    student that distillation has made worse is no choice: its baseline has the same network.
    """
    best: dict[str, Entry] = {}
    for student in comparison.best_first:
        if comparison.score == "mIoU" and student.teacher is not None and not math.isnan(student.miou):
            best.setdefault(student.teacher, student)
    return [_decision(comparison, student) for student in best.values()]


def _decision(comparison: Comparison, student: Entry) -> str:
    difference = comparison.to_teacher(student)
    name = "the student" if len(comparison.of_role("student")) == 1 else f"the student {comparison.name(student)}"
    if difference is None or (ahead := tables.in_points(-difference.value)) is None:
        return "Decision: none, the difference from the teacher is not defined"
    if (line := _on_better_baseline(comparison, student, name)) is not None:
        return line
    known = difference.interval
    doubt = ", not distinguishable from 0" if known and known.known and not known.distinguishable else ""
    lead = f"{tables.interval(difference._replace(value=abs(difference.value))).removeprefix('+')} points"
    if ahead == 0:
        return f"Decision: take {name}: it is {lead} from its teacher"
    if ahead < 0:
        return f"Decision: take {name}: it is {lead} ahead of its teacher{doubt}"
    if ahead < CLOSE:
        return f"Decision: take {name}: its teacher is {lead} ahead, less than {CLOSE:.0f}{doubt}"
    classes = [(value, name) for value, name in zip(difference.classes, comparison.classes, strict=True) if value]
    worst = ", ".join(f"{name} {tables.points(value)}" for value, name in sorted(classes)[:WORST] if value < 0)
    if ahead > FAR:
        most = f" ({worst})" if worst else ""
        return f"Decision: take the teacher where it is fast enough: {name} is {lead} below it{doubt}{most}"
    most = f", most on {worst}" if worst else ""
    return f"Decision: look at the classes: {name} is {lead} below its teacher{doubt}{most}"


def _on_better_baseline(comparison: Comparison, student: Entry, name: str) -> str | None:
    """The decision where the baseline is better than the student, and that is no noise."""
    gain, baseline = comparison.gain(student), comparison.get(student.baseline)
    if gain is None or baseline is None or gain.value > 0 or not comparison.is_certain(student):
        return None
    lost = tables.interval(gain._replace(value=-gain.value)).removeprefix("+")
    label = "" if (own := comparison.label(baseline)) == "baseline" else f" {own}"
    gap = comparison.lead(student)
    above = f"; the teacher is {percent(gap)} points above it" if tables.is_gain(gap) else ""
    return f"Decision: take the baseline{label}: with the same network, {name} is {lost} points below it{above}"


def _within(known: Interval | None, certain: bool, gains: int) -> str:
    """`, 95 % interval −0.4 … +3.0: not distinguishable from 0`, of one of so many gains."""
    if known is None or not known.known:
        return ", without an interval"
    of_several = f" among {gains} gains (Holm)" if known.distinguishable else ""
    words = "" if certain else f": not distinguishable from 0{of_several}"
    return f", 95 % interval {tables.points(known.low)} … {tables.points(known.high)}{words}"
