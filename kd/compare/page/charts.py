"""The numbers of the page's charts as plain data; `page.js` draws them.

Scores are percent, differences points. Colours are variables of the page's style sheet.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kd.compare import tables
from kd.compare.comparison import Comparison, Difference, Entry
from kd.intervals import Interval
from kd.runs import SPLIT, read_metrics

CURVE_POINTS = 120  # a longer loss curve shows the means of this many equal parts
CONFUSED = 20  # classes of the table of confusions, at most
PALETTE = 6  # colours of networks of one role

Data = dict[str, Any]


def color(comparison: Comparison, entry: Entry) -> str:
    """The entry's colour: one a role, several for students and others."""
    peers = comparison.of_role(entry.role)
    return f"var(--{entry.role}{peers.index(entry) % PALETTE if entry.role in ('student', 'alone') else ''})"


def chart_data(comparison: Comparison) -> Data:
    """All charts of a page, by name; those without numbers are empty."""
    return {
        "score": comparison.score,
        "networks": [_network(comparison, entry) for entry in comparison.entries],
        "gains": [
            _gain(comparison, entry, gain) for entry in comparison.best_first if (gain := comparison.gain(entry))
        ],
        "curves": _curves(comparison),
        "confusions": _confusions(comparison),
        "reliability": _reliability(comparison),
    }


def _network(comparison: Comparison, entry: Entry) -> Data:
    figure, gain = entry.figure("miou"), comparison.gain(entry)
    latency = comparison.latency(entry)
    return {
        "key": entry.key,
        "label": comparison.label(entry),
        "role": entry.role,
        "color": color(comparison, entry),
        "score": _percent(figure.mean),
        "sd": _percent(figure.sd),
        "parameters": entry.parameters,
        "latency": None if latency is None else round(latency, 3),
        "before": _percent(gain.before) if gain else None,  # over the seeds of the gain, as `after` is
        "after": _percent(gain.before + gain.value) if gain else None,
        "gain": tables.interval(gain) if gain else None,
    }


def _gain(comparison: Comparison, entry: Entry, gain: Difference) -> Data:
    """The differences of each class from the baseline, with the ends of their intervals."""
    known: Sequence[Interval | None] = gain.class_intervals or [None] * len(gain.classes)
    rows = [
        {"class": name, "points": _percent(value), **_ends(within)}
        for name, value, within in zip(comparison.classes, gain.classes, known, strict=True)
        if value is not None
    ]
    return {"label": comparison.label(entry), "rows": rows}


def _ends(known: Interval | None) -> Data:
    if known is None or not known.known:
        return {"low": None, "high": None, "certain": False}
    return {"low": _percent(known.low), "high": _percent(known.high), "certain": bool(known.distinguishable)}


def _curves(comparison: Comparison) -> list[Data]:
    """The score of every seed while training, then the loss terms of each student."""
    name = "val/miou" if comparison.score == "mIoU" else "agreement/miou"
    logs = {entry.key: [read_metrics(run_dir) for run_dir in entry.run_dirs] for entry in comparison.entries}
    lines = []
    for entry in comparison.entries:
        if entry.role == "teacher":
            continue
        for seed, log in zip(entry.seeds, logs[entry.key], strict=True):
            points = [(step, round(100 * score, 2)) for step, score in _points(log, name)]
            label = comparison.label(entry)
            lines.append({"of": label, "seed": seed, "color": color(comparison, entry), "points": points})
    lines = [line for line in lines if line["points"]]
    if not lines:
        return []
    levels = [
        {"of": f"{comparison.label(entry)}, trained", "color": color(comparison, entry), "value": _percent(entry.miou)}
        for entry in comparison.of_role("teacher")  # often trained for another number of steps
    ]
    charts: list[Data] = [
        {"title": f"{SPLIT} {comparison.score} while training", "unit": "%", "lines": lines, "levels": levels}
    ]
    for entry in comparison.best_first:
        if logs[entry.key] and (terms := list(_losses(entry, logs))):
            title = f"Loss terms of {comparison.name(entry)}, before their weights"
            student = comparison.label(entry)
            charts.append({"title": title, "student": student, "unit": "loss", "lines": terms, "levels": []})
    return charts


def _losses(entry: Entry, logs: Mapping[str, list[list[dict[str, float]]]]) -> Iterable[Data]:
    """The student's loss terms with its baseline's supervised loss; of the first seed."""
    log = logs[entry.key][0]
    names = dict.fromkeys(name for line in log for name in line if name.startswith("loss/") and name != "loss/total")
    for index, name in enumerate(names):
        points = _thinned(_points(log, name))
        yield {"of": name.removeprefix("loss/"), "color": f"var(--term{index % 4})", "points": points}
    if entry.baseline is not None and logs[entry.baseline]:
        points = _thinned(_points(logs[entry.baseline][0], "loss/supervised"))
        yield {"of": "supervised, baseline", "color": "var(--baseline)", "points": points}


def _points(lines: Iterable[dict[str, float]], name: str) -> list[tuple[float, float]]:
    return [(line["step"], line[name]) for line in lines if math.isfinite(line.get(name, math.nan))]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = -(-len(points) // CURVE_POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)] if size else []
    return [(part[-1][0], float(f"{statistics.fmean(value for _, value in part):.5g}")) for part in parts]


def _confusions(comparison: Comparison) -> list[Data]:
    """Student minus baseline: of each label's pixels, the points that are predicted as each class.

    Over the seeds that both have, as the gain is.
    """
    found = []
    for student in comparison.best_first:
        baseline = comparison.get(student.baseline)
        gain = comparison.gain(student)
        if baseline is None or gain is None:
            continue
        after, before = (_shares(entry, gain.seeds) for entry in (student, baseline))
        change = after - before
        order = np.argsort(-np.abs(change).sum(1), kind="stable")[:CONFUSED]
        kept = sorted(map(int, order))
        cells = [
            [[round(float(value), 1) for value in (before[i, j], after[i, j], change[i, j])] for j in kept]
            for i in kept
        ]
        found.append(
            {
                "label": comparison.label(student),
                "student": student.key,
                "baseline": baseline.key,
                "classes": [comparison.classes[index] for index in kept],
                "indices": kept,
                "cells": cells,
            }
        )
    return found


def _shares(entry: Entry, seeds: Sequence[int]) -> np.ndarray:
    """The confusion matrix of these seeds in percent of each label's pixels; 0 for a class that is not labelled."""
    splits = [split for seed, split in zip(entry.seeds, entry.splits, strict=True) if seed in seeds]
    total = np.sum([split.confusion for split in splits], axis=0).astype(float)
    labelled = total.sum(1, keepdims=True)
    shares: np.ndarray = 100 * np.divide(total, labelled, out=np.zeros_like(total), where=labelled > 0)
    return shares


def _reliability(comparison: Comparison) -> list[Data]:
    """Confidence and accuracy of each bin, of the networks that were scored with the calibration error."""
    found = []
    for entry in comparison.entries:
        for metric in entry.metrics.values():
            figures = metric.figures
            bins = [
                {part: _percent(figures[f"{part} {b}"].mean) for part in ("share", "confidence", "accuracy")}
                for b in range(len(figures))
                if f"confidence {b}" in figures and not math.isnan(figures[f"confidence {b}"].mean)
            ]
            if bins:
                found.append({"of": comparison.label(entry), "color": color(comparison, entry), "bins": bins})
    return found


def _percent(share: float | None) -> float | None:
    return None if share is None or math.isnan(share) else round(100 * share, 2)
