"""A comparison, a list of runs and a difference as plain data: JSON and CSV. Scores are percent, differences points."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from kd.compare import answer, output
from kd.compare.comparison import SCORES, Comparison, Difference, Entry, Figure, MetricFigures
from kd.compare.listing import RunLine
from kd.intervals import LEVEL, Interval
from kd.runs import SPLIT


def to_json(comparison: Comparison, report: str | None = None) -> dict[str, Any]:
    """The comparison as `kd compare --json` prints it; `report` is the page's file."""
    return output.CompareOutput(
        level=LEVEL,
        split=SPLIT,
        images=comparison.images,
        classes=list(comparison.classes),
        absent=list(comparison.absent),
        warnings=answer.warnings(comparison),
        headline=answer.headline(comparison),
        decision=answer.decision(comparison),
        latency=comparison.latencies.how or None,
        networks=[network(comparison, entry) for entry in comparison.entries],
        notes=[note.text for note in comparison.notes],
        report=report,
    ).model_dump()


def list_json(lines: Sequence[RunLine], runs: str) -> dict[str, Any]:
    """The runs as `kd list --json` prints them; `runs` is their folder."""
    listed = [
        output.ListedRun(
            run=f"{runs}/{line.name}-{line.id}/seed{line.seed}",
            name=line.name,
            id=line.id,
            seed=line.seed,
            role=line.role,
            state=line.state,
            miou=_scaled(line.miou),
            changed=line.changed.isoformat(timespec="seconds"),
            inputs=list(line.marks),
        )
        for line in lines
    ]
    return output.ListOutput(runs=listed).model_dump()


def to_csv(comparison: Comparison) -> str:
    """A row for each network, with the numbers of the JSON: the means over seeds, and a column for each class."""
    rows = [_row(each) for each in to_json(comparison)["networks"]]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(network: dict[str, Any]) -> dict[str, Any]:
    row = {name: network[name] for name in ("key", "role", "label", "network", "teacher", "baseline")}
    row["seeds"] = " ".join(map(str, network["seeds"]))
    for name in SCORES:
        row |= {name: network[name]["mean"], f"{name}_sd": network[name]["sd"]}
    for label, metric in network["metrics"].items():
        for name, figure in metric["values"].items():
            title = f"{label} {name} {metric['unit']}"
            row |= {title: figure["mean"], f"{title} sd": figure["sd"]}
    for versus in ("vs_baseline", "vs_teacher"):
        difference = network[versus] or {}
        known = difference.get("interval") or {}
        row[f"{versus}_points"] = difference.get("points")
        row |= {f"{versus}_{part}": known.get(part) for part in ("low", "high", "p")}
    closed = network["closed"] or {}
    row["vs_baseline_p_holm"] = (network["vs_baseline"] or {}).get("p_holm")
    row |= {"closed": closed.get("value"), **{f"closed_{part}": closed.get(part) for part in ("low", "high")}}
    sizes = ("parameters", "size", "latency", "seconds", "images_per_second", "images_seen", "peak_memory")
    row |= {name: network[name] for name in ("weak_baseline", *sizes)}
    return row | {f"iou {name}": value for name, value in network["iou"].items()}


def network(comparison: Comparison, entry: Entry) -> output.Network:
    """A row of the table."""
    return output.Network(
        key=entry.key,
        role=entry.role,
        name=entry.name,
        label=comparison.label(entry),
        network=entry.network,
        runs=[str(run_dir) for run_dir in entry.run_dirs],
        seeds=list(entry.seeds),
        select=entry.select,
        inputs=list(entry.marks),
        **{name: _figure(entry.figure(name)) for name in SCORES},
        iou={name: _scaled(iou) for name, iou in zip(comparison.classes, entry.iou, strict=True)},
        metrics={label: _metric(metric) for label, metric in entry.metrics.items()},
        teacher=entry.teacher,
        baseline=entry.baseline,
        vs_baseline=_difference(comparison, comparison.gain(entry), comparison.adjusted.get(entry.key)),
        vs_teacher=_difference(comparison, comparison.to_teacher(entry)),
        weak_baseline=comparison.weak.get(entry.key),
        closed=_interval(comparison.closed.get(entry.key)),
        parameters=entry.parameters,
        size=round(entry.megabytes, 3),
        latency=None if (latency := comparison.latency(entry)) is None else round(latency, 3),
        seconds=entry.seconds,
        images_per_second=entry.images_per_second,
        images_seen=None if entry.images_seen is None else round(entry.images_seen),
        peak_memory=entry.peak_memory,
    )


def _difference(
    comparison: Comparison, difference: Difference | None, adjusted: float | None = None
) -> output.Difference | None:
    """A difference in points, with its intervals; `p_holm` is adjusted for the number of students."""
    if difference is None:
        return None
    names, none = comparison.classes, [None] * len(comparison.classes)
    rows = zip(names, difference.classes, difference.class_intervals or none, strict=True)
    return output.Difference(
        points=_scaled(difference.value),
        seeds=list(difference.seeds),
        interval=_interval(difference.interval),
        p_holm=_finite(adjusted),
        iou={
            name: output.ClassDifference(points=_scaled(value), interval=_interval(known))
            for name, value, known in rows
        },
    )


def _interval(known: Interval | None) -> output.Interval | None:
    if known is None or not known.known:
        return None
    return output.Interval(
        value=_scaled(known.value),
        low=_scaled(known.low),
        high=_scaled(known.high),
        distinguishable=bool(known.distinguishable),
        p=_finite(known.p_value),
        seeds=known.seeds,
        groups=known.groups,
    )


def _metric(metric: MetricFigures) -> output.MetricValues:
    values = {name: _figure(figure, metric.unit) for name, figure in metric.figures.items()}
    return output.MetricValues(unit=metric.unit, direction=metric.direction, values=values)


def _figure(figure: Figure, unit: str = "%") -> output.Figure:
    def plain(value: float | None) -> float | None:
        return _scaled(value) if unit == "%" else _finite(value)

    return output.Figure(mean=plain(figure.mean), sd=plain(figure.sd), seeds=[plain(value) for value in figure.values])


def _scaled(share: float | None) -> float | None:
    """A share in percent; None for NaN too. Four decimals: a pixel in a million."""
    value = _finite(share)
    return None if value is None else round(100 * value, 4)


def _finite(value: float | None) -> float | None:
    """The value; None for NaN and infinity, which JSON does not have."""
    return value if value is not None and math.isfinite(value) else None
