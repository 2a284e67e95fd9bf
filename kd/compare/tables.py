"""A comparison as text: the terminal's tables, and JSON.

Scores are percent and differences are points, one decimal, computed before rounding; sizes are 10⁶ bytes of float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from kd.compare.comparison import SPLIT, Comparison, Entry, Figure
from kd.compare.listing import RunLine
from kd.metrics import Scores

NOTHING = "–"

SCORES: dict[str, Callable[[Scores], float]] = {
    "miou": lambda each: each.miou,
    "pixel_accuracy": lambda each: each.pixel_accuracy,
    "mean_accuracy": lambda each: each.mean_accuracy,
    "mean_dice": lambda each: each.mean_dice,
}


def percent(share: float | None) -> str:
    """`52.5`, of a share from 0 to 1; a dash for None and NaN."""
    return NOTHING if share is None or share != share else f"{100 * share:.1f}"


def points(difference: float | None) -> str:
    """`+1.3` or `−0.4`, of a difference of shares; a dash for None and NaN."""
    if difference is None or difference != difference:
        return NOTHING
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def spread(figure: Figure) -> str:
    """`52.5`, and over several seeds `52.5 ± 0.4`: mean and standard deviation."""
    return percent(figure.mean) if figure.sd is None else f"{percent(figure.mean)} ± {percent(figure.sd)}"


def count(parameters: int) -> str:
    """`6.83 M` or `12.3 k`."""
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters / 1e3:.1f} k"


def minutes(seconds: float | None) -> str:
    """`11.2`: minutes."""
    return NOTHING if seconds is None else f"{seconds / 60:.1f}"


def short(network: str) -> str:
    """A network's class: the last part of its component's path."""
    return network.replace(":", ".").rpartition(".")[2]


def warnings(comparison: Comparison) -> list[str]:
    """What to read before any number: a teacher that cannot be expected to help."""
    pairs = {(entry.teacher, entry.baseline) for entry in comparison.of_role("student")}
    found = []
    for teacher, baseline in ((comparison.get(t), comparison.get(b)) for t, b in sorted(pairs, key=str)):
        if teacher is not None and baseline is not None and points(teacher.miou - baseline.miou)[0] != "+":
            found.append(
                f"warning: the teacher ({percent(teacher.miou)} % mIoU) is not better than the baseline "
                f"({percent(baseline.miou)} %): it has nothing to hand on; train a better teacher first"
            )
    return found


def headline(comparison: Comparison) -> list[str]:
    """What distillation did, one sentence a student."""
    students = comparison.of_role("student")
    if not students:
        number = len(comparison.entries)
        return [f"{number} network{'s' * (number > 1)} on the same {comparison.images} {SPLIT} images"]
    return [_sentence(comparison, student, name=len(students) > 1) for student in students]


def _sentence(comparison: Comparison, student: Entry, *, name: bool) -> str:
    who = f"{student.name}: distillation" if name else "Distillation"
    baseline, teacher = comparison.get(student.baseline), comparison.get(student.teacher)
    if baseline is None:
        reached = f"{student.name if name else 'The student'} reaches {percent(student.miou)} % mIoU"
        below = "" if teacher is None else f", the teacher {percent(teacher.miou)} %"
        return f"{reached}{below}; without a baseline, what distillation gave is unknown"
    gain = student.miou - baseline.miou
    amount = points(abs(gain)).lstrip("+")
    numbers = f"{percent(baseline.miou)} → {percent(student.miou)} % mIoU"
    if amount == "0.0":
        done = f"{who} changed nothing ({numbers})"
    elif gain < 0:
        done = f"{who} cost {amount} points ({numbers})"
    else:
        done = f"{who} bought +{amount} points"
    gap = None if teacher is None else teacher.miou - baseline.miou
    if gap is None or points(gap)[0] != "+":
        return done if "(" in done else f"{done} ({numbers})"
    width = percent(gap)
    if "(" in done:
        return f"{done}; the teacher is {width} points above the baseline"
    return f"{done} of the {width} between baseline and teacher ({numbers})"


def summary_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The main table as text: its header and its rows, one a network."""
    header = [
        "",
        "network",
        "mIoU %",
        "pixel acc. %",
        "vs baseline",
        "vs teacher",
        "params",
        "MB",
        "train min",
        "images/s",
    ]
    return header, [_row(comparison, entry) for entry in comparison.entries]


def _row(comparison: Comparison, entry: Entry) -> list[str]:
    label = comparison.label(entry)
    title = entry.role if label == entry.role else f"{entry.role} {label}"
    seeds = f", {len(entry.splits)} seeds" if len(entry.splits) > 1 else ""
    best = ", best step" if entry.select == "best" else ""
    speed = NOTHING if entry.images_per_second is None else f"{entry.images_per_second:.1f}"
    return [
        f"{title}{seeds}{best}",
        short(entry.network),
        spread(entry.figure(SCORES["miou"])),
        spread(entry.figure(SCORES["pixel_accuracy"])),
        points(comparison.gain(entry)),
        points(comparison.to_teacher(entry)),
        count(entry.parameters),
        f"{entry.megabytes:.1f}",
        minutes(entry.seconds),
        speed,
    ]


def class_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """IoU by class as text: header and rows; the last columns are the students' gains."""
    gaining = [entry for entry in comparison.of_role("student") if entry.baseline is not None]
    names = ["gain" if len(gaining) == 1 else f"gain {comparison.label(entry)}" for entry in gaining]
    header = ["IoU %", *(comparison.label(entry) for entry in comparison.entries), *names]
    rows = []
    for index, name in enumerate(comparison.classes):
        cells = [percent(entry.iou[index]) for entry in comparison.entries]
        rows.append([name, *cells, *(points(class_gain(comparison, entry, index)) for entry in gaining)])
    return header, rows


def class_gain(comparison: Comparison, entry: Entry, index: int) -> float | None:
    """IoU of one class above the baseline's, a share; None where either has none."""
    baseline = comparison.get(entry.baseline)
    here, there = entry.iou[index], None if baseline is None else baseline.iou[index]
    return None if here is None or there is None else here - there


def as_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, title: str | None = None) -> Table:
    """Text as a terminal table; the first `left` columns are words, the others numbers."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold", header_style="bold")
    for index, name in enumerate(header):
        table.add_column(Text(name), justify="left" if index < left else "right", no_wrap=index >= left)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def facts(comparison: Comparison) -> str:
    """What the scores were taken on, and their units."""
    seeds = max(len(entry.splits) for entry in comparison.entries)
    over = "; mean ± standard deviation over seeds" if seeds > 1 else ""
    return (
        f"{SPLIT}: {comparison.images} images, {len(comparison.classes)} classes; "
        f"scores in percent, differences in points of mIoU{over}"
    )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain data: scores in percent, differences in points, sizes in MB, times in seconds."""
    return {
        "format": 1,
        "split": SPLIT,
        "images": comparison.images,
        "classes": list(comparison.classes),
        "absent": list(comparison.absent),
        "units": {"scores": "percent", "differences": "points", "size": "MB", "seconds": "s", "peak_memory": "bytes"},
        "warnings": warnings(comparison),
        "headline": headline(comparison),
        "networks": [_entry_json(comparison, entry) for entry in comparison.entries],
        "notes": list(comparison.notes),
    }


def _entry_json(comparison: Comparison, entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {
        "key": entry.key,
        "role": entry.role,
        "name": entry.name,
        "network": entry.network,
        "runs": [str(run) for run in entry.runs],
        "seeds": list(entry.seeds),
        "select": entry.select,
    }
    for name, score in SCORES.items():
        figure = entry.figure(score)
        values = [_scaled(score(each)) for each in entry.scores]
        found[name] = {"mean": _scaled(figure.mean), "sd": _scaled(figure.sd), "seeds": values}
    return found | {
        "iou": {name: _scaled(iou) for name, iou in zip(comparison.classes, entry.iou, strict=True)},
        "teacher": entry.teacher,
        "baseline": entry.baseline,
        "vs_baseline": _scaled(comparison.gain(entry)),
        "vs_teacher": _scaled(comparison.to_teacher(entry)),
        "parameters": entry.parameters,
        "size": round(entry.megabytes, 3),
        "seconds": entry.seconds,
        "images_per_second": entry.images_per_second,
        "peak_memory": entry.peak_memory,
    }


def _scaled(share: float | None) -> float | None:
    """A share in percent; None for NaN too, which JSON does not have. Four decimals: a pixel in a million."""
    return None if share is None or share != share else round(100 * share, 4)


def list_rows(lines: Sequence[RunLine]) -> tuple[list[str], list[list[str]]]:
    """The list of runs as text: header and rows."""
    header = ["run", "id", "seed", "role", "state", "val mIoU %", "changed"]
    rows = [
        [
            line.name,
            line.id,
            str(line.seed),
            line.role,
            line.state,
            percent(line.miou),
            f"{line.changed:%Y-%m-%d %H:%M}",
        ]
        for line in lines
    ]
    return header, rows
