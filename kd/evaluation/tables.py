"""Scores of runs as text, JSON and CSV. Shares are percent with one decimal in tables, and from 0 to 1 elsewhere."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kd.evaluation.scored import Scored
from kd.metrics import scores
from kd.runs import MetricResult

NOTHING = "–"
CSV_HEADER = ("run", "image", "miou", "pixel_accuracy")

Table = tuple[list[str], list[list[str]]]  # header and rows


def run_rows(runs: Sequence[Scored]) -> Table:
    """A row for each run: its place, network, scores and number of images; numbered where there are several."""
    metrics: dict[str, MetricResult] = {}
    for run in runs:
        metrics = run.score.metrics | metrics
    headers = [_header(label, metric) for label, metric in metrics.items()]
    rows = [
        [
            _label(index, run, runs),
            run.result.network.replace(":", ".").rpartition(".")[2],
            _percent((score := scores(run.score.confusion)).miou),
            _percent(score.pixel_accuracy),
            *(_value(run.score.metrics.get(label)) for label in metrics),
            str(run.score.images),
        ]
        for index, run in enumerate(runs, start=1)
    ]
    return ["run", "network", "mIoU %", "pixel acc. %", *headers, "images"], rows


def class_rows(runs: Sequence[Scored]) -> Table:
    """A row for each class: its IoU in each run; a dash where it is neither labelled nor predicted."""
    names = dict.fromkeys(name for run in runs for name in run.score.classes)
    iou = [dict(zip(run.score.classes, scores(run.score.confusion).iou, strict=True)) for run in runs]
    header = ["IoU %", *(f"run {index}" for index in range(1, len(runs) + 1))] if len(runs) > 1 else ["class", "IoU %"]
    return header, [[name, *(_percent(of_run.get(name)) for of_run in iou)] for name in names]


def _label(index: int, run: Scored, runs: Sequence[Scored]) -> str:
    number = f"{index} " if len(runs) > 1 else ""
    seen = ", trained on some of the images" if run.trained_on else ""
    return f"{number}{run.run_dir.parent.name}/{run.run_dir.name}{seen}"


def _header(label: str, metric: MetricResult) -> str:
    return " ".join(filter(None, (label, metric.unit, "↓" if metric.direction == "lower" else "")))


def _value(metric: MetricResult | None) -> str:
    if metric is None or metric.unit == "%":
        return _percent(None if metric is None else metric.headline)
    return NOTHING if metric.headline is None else f"{metric.headline:.3g}"


def _percent(share: float | None) -> str:
    return NOTHING if share is None or math.isnan(share) else f"{100 * share:.1f}"


def to_json(runs: Sequence[Scored], split: str) -> dict[str, Any]:
    """The split, and for each run its scores, classes, metrics and confusion matrix."""
    return {"format": 1, "split": split, "runs": [_run_to_json(run) for run in runs]}


def _run_to_json(run: Scored) -> dict[str, Any]:
    score = scores(run.score.confusion)
    pairs = zip(run.score.classes, score.iou, score.dice, strict=True)
    return {
        "run": str(run.run_dir),
        "name": run.result.name,
        "id": run.result.id,
        "seed": run.result.seed,
        "role": run.result.role,
        "network": run.result.network,
        "images": run.score.images,
        "trained_on": run.trained_on,
        "miou": score.miou,
        "pixel_accuracy": score.pixel_accuracy,
        "mean_accuracy": score.mean_accuracy,
        "mean_dice": score.mean_dice,
        "classes": [{"name": name, "iou": iou, "dice": dice} for name, iou, dice in pairs],
        "metrics": {label: metric._asdict() for label, metric in run.score.metrics.items()},
        "confusion": run.score.confusion.tolist(),
    }


def to_csv(runs: Sequence[Scored]) -> str:
    """A row for each image of each run: mIoU over the classes that are labelled or predicted in it, pixel accuracy.

    Both are empty for an image without a labelled pixel.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for run in runs:
        writer.writerows(_image_rows(run))
    return text.getvalue()


def _image_rows(run: Scored) -> Iterator[list[str]]:
    assert run.score.per_image is not None
    for name, counts in zip(run.score.per_image.names, run.score.per_image.counts, strict=True):
        hits, predicted, labelled = counts.T
        union = predicted + labelled - hits
        miou = np.mean(hits[union > 0] / union[union > 0]) if union.any() else None
        accuracy = hits.sum() / labelled.sum() if union.any() else None
        yield [str(run.run_dir), name, *("" if value is None else f"{value:.6f}" for value in (miou, accuracy))]
