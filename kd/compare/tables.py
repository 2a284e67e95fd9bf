"""A comparison as text: numbers and tables.

Scores are percent and differences are points, one decimal, computed before rounding; sizes are 10⁶ bytes of float32.
"""

import math
from collections.abc import Sequence

from kd.compare.comparison import Comparison, Difference, Entry, Figure
from kd.runs import NOT_RECORDED, SPLIT
from kd.units import NOTHING, metric_title, percent

WEAK = " †"
CERTAIN = " *"  # of several gains, one that is not noise


def in_points(difference: float | None) -> float | None:
    """A difference of shares in points, rounded to the decimal that tables show; None for None and NaN."""
    return None if difference is None or math.isnan(difference) else round(100 * difference, 1)


def is_gain(difference: float | None) -> bool:
    """Whether a difference of shares is above 0 as tables show it: by a tenth of a point at least."""
    shown = in_points(difference)
    return shown is not None and shown > 0


def points(difference: float | None) -> str:
    """`+1.3` or `−0.4`, of a difference of shares; a dash for None and NaN."""
    shown = in_points(difference)
    if shown is None:
        return NOTHING
    return f"{shown:+.1f}".replace("-", "−") if shown else "0.0"


def interval(difference: Difference | None) -> str:
    """`+1.3 ± 0.4` with the half-width of the 95 % interval, `+1.3` without one; a dash for None."""
    if difference is None:
        return NOTHING
    known = difference.interval
    half = f" ± {100 * known.half_width:.1f}" if known is not None and known.known else ""
    return f"{points(difference.value)}{half}"


def gain(comparison: Comparison, entry: Entry) -> str:
    """The gain above the baseline as `interval`; marked where the baseline is a weak one, and if it is not noise."""
    certain = len(comparison.adjusted) > 1 and comparison.is_certain(entry)
    weak = entry.key in comparison.weak
    return f"{interval(comparison.gain(entry))}{WEAK if weak else ''}{CERTAIN if certain else ''}"


def spread(figure: Figure, unit: str = "%") -> str:
    """`52.5`, and over several seeds `52.5 ± 0.4`: mean and standard deviation; a dash where they are not defined."""
    if math.isnan(figure.mean):
        return NOTHING
    mean, sd = (percent(value) if unit == "%" else f"{value:.3g}" for value in (figure.mean, figure.sd or 0.0))
    return mean if figure.sd is None else f"{mean} ± {sd}"


def count(parameters: int) -> str:
    """`6.83 M` or `12.3 k`."""
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters / 1e3:.1f} k"


def minutes(seconds: float | None) -> str:
    """`11.2`: minutes."""
    return NOTHING if seconds is None else f"{seconds / 60:.1f}"


def milliseconds(known: float | None) -> str:
    """`4.25`, `31.0` or `412`: of one image."""
    if known is None:
        return NOTHING
    return f"{known:.{2 if known < 10 else 1 if known < 100 else 0}f}"


def images(comparison: Comparison) -> str:
    """`200 val images`."""
    return f"{comparison.images} {SPLIT} image{'s' * (comparison.images != 1)}"


def short(network: str) -> str:
    """A network's class: the last part of its component's path."""
    return network.replace(":", ".").rpartition(".")[2]


def colors(comparison: Comparison) -> dict[tuple[int, str], str]:
    """The colour of each gain that is not noise, green or red, by row and column title of both tables."""
    found: dict[tuple[int, str], str] = {}
    for row, entry in enumerate(comparison.entries):
        gain = comparison.gain(entry)
        if gain is not None:
            found[row, "vs baseline"] = _color(gain.value, comparison.is_certain(entry))
    return {place: color for place, color in found.items() if color}


def class_colors(comparison: Comparison) -> dict[tuple[int, str], str]:
    """As `colors`, for the table of classes."""
    found: dict[tuple[int, str], str] = {}
    for title, entry in _gaining(comparison).items():
        gain = comparison.gains[entry.key]
        known = gain.class_intervals or (None,) * len(gain.classes)
        for row, (value, within) in enumerate(zip(gain.classes, known, strict=True)):
            found[row, title] = _color(value, within is not None and within.distinguishable)
    return {place: color for place, color in found.items() if color}


def _color(value: float | None, certain: bool) -> str:
    shown = in_points(value)
    if not shown or not certain:
        return ""
    return "green" if shown > 0 else "red"


def _gaining(comparison: Comparison) -> dict[str, Entry]:
    """The students with a gain, by the title of its column."""
    students = [entry for entry in comparison.of_role("student") if comparison.gain(entry) is not None]
    return {"gain" if len(students) == 1 else f"gain {comparison.label(entry)}": entry for entry in students}


def summary_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The main table as text: its header and its rows, one a network."""
    metrics = [metric_title(label, metric.unit, metric.direction) for (label, _), metric in comparison.metrics.items()]
    differences = ["vs baseline", "vs teacher"]
    header = [
        "",
        "network",
        f"{comparison.score} %",
        *differences,
        "pixel acc. %",
        *metrics,
        "params",
        "MB",
        *(["ms"] if comparison.latencies.milliseconds else []),
        "train min",
    ]
    return header, [_row(comparison, entry) for entry in comparison.entries]


def _row(comparison: Comparison, entry: Entry) -> list[str]:
    label = comparison.label(entry)
    title = entry.role if label == entry.role else f"{entry.role} {label}"
    seeds = f", {len(entry.splits)} seeds" if len(entry.splits) > 1 else ""
    best = ", best step" if entry.select == "best" else ""
    mark = f", {marked(entry.marks)}" if entry.marks else ""
    metrics = [entry.metric(label, unit) for label, unit in comparison.metrics]
    return [
        f"{title}{seeds}{best}{mark}",
        short(entry.network),
        spread(entry.figure("miou")),
        gain(comparison, entry),
        interval(comparison.to_teacher(entry)),
        spread(entry.figure("pixel_accuracy")),
        *(NOTHING if metric is None else spread(metric.headline, metric.unit) for metric in metrics),
        count(entry.parameters),
        f"{entry.megabytes:.1f}",
        *([milliseconds(comparison.latency(entry))] if comparison.latencies.milliseconds else []),
        minutes(entry.seconds),
    ]


def marked(marks: Sequence[str]) -> str:
    """The marks on the inputs of a run in two or three words; a note has the rest."""
    return marks[0] if marks == (NOT_RECORDED,) else "other inputs"


def class_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """IoU by class as text: header and rows; the last columns are the students' gains."""
    gaining = _gaining(comparison)
    header = ["IoU %", *(comparison.label(entry) for entry in comparison.entries), *gaining]
    rows = []
    for index, name in enumerate(comparison.classes):
        cells = [percent(entry.iou[index]) for entry in comparison.entries]
        rows.append([name, *cells, *(points(class_gain(comparison, entry, index)) for entry in gaining.values())])
    return header, rows


def class_gain(comparison: Comparison, entry: Entry, index: int) -> float | None:
    """IoU of one class above the baseline's, a share; None where either has none."""
    gain = comparison.gain(entry)
    return None if gain is None else gain.classes[index]


def facts(comparison: Comparison) -> str:
    """The images and classes that were scored, and the units of the tables."""
    seeds = max(len(entry.splits) for entry in comparison.entries)
    against = (
        "" if comparison.score == "mIoU" else "; agreement: mIoU against the teacher's classes, as there are no labels"
    )
    known = any(gain.interval and gain.interval.known for gain in comparison.gains.values())
    intervals = " with 95 % intervals" if known else ""
    marked = any(gain(comparison, entry).endswith(CERTAIN) for entry in comparison.entries)
    marks = f"; * the gain is not 0, adjusted for {len(comparison.adjusted)} gains (Holm)" if marked else ""
    over = "; mean ± standard deviation over seeds" if seeds > 1 else ""
    return (
        f"{SPLIT}: {comparison.images} image{'s' * (comparison.images != 1)}, {len(comparison.classes)} classes; "
        f"scores in percent, differences in points of {comparison.score}{intervals}{over}{against}{marks}"
    )
