"""The lines below the tables: what a sceptical reader asks about the scores, the intervals and the latencies."""

import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from kd.compare.comparison import SAME_SCORE, Comparison, Entry, Note
from kd.intervals import FEW_GROUPS
from kd.metrics import scores
from kd.runs import SPLIT, Result, SplitResult, short_name
from kd.units import duration


def on_baseline(student: Entry, baseline: Entry | None, command: str) -> list[Note]:
    """What the baseline lacks, with the `kd run` of the student's recipe that adds it."""
    if student.splits[0].against == "teacher":
        return []  # without labels there is no baseline
    if baseline is None:
        assert student.seconds is not None
        needed = duration(student.seconds * len(student.seeds))
        line = f"no baseline: the gain is unknown; {command} --baseline adds it (about {needed})"
        return [Note("no baseline", line)]
    if set(baseline.seeds) != set(student.seeds):
        seeds, baseline_seeds = (", ".join(map(str, entry.seeds)) for entry in (student, baseline))
        common = [seed for seed in student.seeds if seed in baseline.seeds]
        compared = f"compared over {', '.join(map(str, common))} alone" if common else "they have none in common"
        trained = f"{_with_seeds(command, {*student.seeds, *baseline.seeds})} --baseline trains the missing seeds"
        fix = _further(student, baseline) or trained
        line = f"{student.folder} has seeds {seeds}, its baseline {baseline_seeds}: {compared}; {fix}"
        return [Note("seeds differ", line)]
    return []


def on_start(results: Sequence[Result]) -> list[Note]:
    """A note for each remark of the runs on how their networks started: one for all seeds."""
    remarks = dict.fromkeys(remark for result in results for remark in result.remarks)
    name = results[0].name
    return [
        Note("start", f"{remark} ({name})" if remark.startswith("warning") else f"{name}: {remark}")
        for remark in remarks
    ]


def on_teacher(results: Sequence[Result]) -> list[Note]:
    """A line for each teacher that was trained again between the seeds of a student."""
    scored: dict[str, list[float]] = {}
    for teacher in (result.teacher for result in results if result.teacher is not None):
        if teacher.run is not None:
            score = scores(teacher.splits[SPLIT].confusion).miou
            scored.setdefault(short_name(Path(teacher.run)), []).append(score)
    again = {run: found for run, found in scored.items() if max(found) - min(found) >= SAME_SCORE}
    return [
        Note(
            "teacher",
            f"{results[0].name}: {run} was trained again between its seeds (mIoU "
            f"{', '.join(f'{100 * score:.1f}' for score in found)} %); each seed is compared with its own teacher",
        )
        for run, found in again.items()
    ]


def _with_seeds(command: str, seeds: Iterable[int]) -> str:
    """The `kd run` with these seeds."""
    words = [word for word in shlex.split(command) if not word.startswith("train.seeds=")]
    return shlex.join([*words, f"train.seeds=[{','.join(map(str, sorted(seeds)))}]"])


def _further(student: Entry, baseline: Entry) -> str:
    """What compares further seeds, which both have and no target names; empty if there are none."""
    both = {*student.seeds, *student.unread} & {*baseline.seeds, *baseline.unread}
    if both <= {*student.seeds} & {*baseline.seeds}:
        return ""
    folder, other = (entry.run_dirs[0].parent for entry in (student, baseline))
    elsewhere = [] if folder.parent == other.parent else [str(other)]
    return f"{shlex.join(['kd', 'compare', str(folder), *elsewhere])} compares further seeds"


def on_intervals(comparison: Comparison) -> list[Note]:
    """What the intervals do not contain."""
    notes: list[Note] = []
    known = [gain.interval for gain in comparison.gains.values() if gain.interval is not None]
    missing = [key for key, gain in comparison.gains.items() if gain.interval is None]
    if missing and not comparison.notes:  # of files that are damaged
        why = "a run stores no counts of each image (kd 0.1 wrote none), or those of other images"
        line = f"no interval for {', '.join(missing)}: {why}"
        notes.append(Note("no interval", line))
    if known and all(interval.groups == 1 for interval in known):
        alone = "there is one image" if comparison.images == 1 else "all images are of one group"
        return [*notes, Note("no interval", f"no interval: {alone}, and nothing shows how another one would differ")]
    for student in comparison.of_role("student"):
        gain, baseline = comparison.gain(student), comparison.get(student.baseline)
        if baseline is not None and gain is not None and gain.interval is not None and gain.interval.seeds == 1:
            fix = _further(student, baseline) or "train.seeds=[0,1,2] adds it"
            notes.append(Note("one seed", f"one seed: training noise is not in this interval; {fix}"))
            break
    if few := sorted({interval.groups for interval in known if interval.groups < FEW_GROUPS}):
        line = f"few independent groups of images: {few[0]}; below {FEW_GROUPS} the interval is a rough one"
        notes.append(Note("few groups", line))
    return notes


def on_scores(comparison: Comparison) -> list[Note]:
    """What a sceptical reader asks about the scores."""
    notes: list[Note] = []
    if comparison.absent:
        labelled_as = "labelled" if comparison.score == "mIoU" else "predicted by the teacher as"
        line = f"absent: no {SPLIT} pixel is {labelled_as} {', '.join(comparison.absent)}"
        notes.append(Note("absent", line))
    for entry in comparison.entries:
        label = comparison.label(entry)
        scored = {name for name, iou in zip(comparison.classes, entry.iou, strict=True) if iou is not None}
        if wrong := [name for name in comparison.absent if name in scored]:
            line = f"{label} predicts {', '.join(wrong)}, which is absent: its IoU of 0 lowers the mIoU"
            notes.append(Note("absent", line))
        if only := {names[0] for split in entry.splits if len(names := _predicted(split)) == 1}:
            line = f"{label} predicts only {' or '.join(sorted(only))}: it has learned almost nothing"
            notes.append(Note("one class", line))
    for entry in comparison.entries:
        if entry.marks:
            notes.append(Note("inputs", f"{comparison.label(entry)}: {', '.join(entry.marks)}"))
    for name in {label: None for label, _ in comparison.metrics}:
        without = [e for e in comparison.entries if name in e.metrics and math.isnan(e.metrics[name].headline.mean)]
        if without:
            labels = ", ".join(map(comparison.label, without))
            notes.append(Note("metric", f"{name} has no value for {labels}: in a seed it is not defined, or NaN"))
    if best := [comparison.label(entry) for entry in comparison.entries if entry.select == "best"]:
        line = f"select: best ({', '.join(best)}): the step was chosen on these images, so the score is optimistic"
        notes.append(Note("best step", line))
    return notes


def _predicted(split: SplitResult) -> list[str]:
    """The classes that at least one pixel is predicted as."""
    return [name for name, pixels in zip(split.classes, split.confusion.sum(0).tolist(), strict=True) if pixels]
