"""Scores of runs as text, JSON and CSV. Shares are percent with one decimal in tables, and from 0 to 1 elsewhere."""

import csv
import io
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd.evaluation.output import EvaluateOutput
from kd.evaluation.scored import Scored
from kd.evaluation.targets import FILES
from kd.metrics import scores
from kd.runs import MetricResult
from kd.units import NOTHING, metric_title, percent

COLUMNS = 6  # of numbers, which fit into 80 characters beside the names
SPREAD = ("miou", "pixel_accuracy")
CSV_HEADER = ("run", "image", "miou", "pixel_accuracy")

Table = tuple[list[str], list[list[str]]]  # header and rows


def run_rows(runs: Sequence[Scored]) -> Table:
    """A row for each run, numbered where there are several; and one for the mean over the seeds of a recipe."""
    with_seen = any(run.trained_on for run in runs)
    header = ["run", "mIoU %", "pixel acc. %", "images", *(["trained on"] if with_seen else [])]
    rows = []
    for index, run in enumerate(runs, start=1):
        score, place = scores(run.score.confusion), "/".join(run.path.parts[-2:])
        name = f"{index} {place}" if len(runs) > 1 else place
        row = [name, percent(score.miou), percent(score.pixel_accuracy), str(run.score.images)]
        rows.append(row + ([str(run.trained_on)] if with_seen else []))
    for mean in means(runs):
        seeds, name = mean["seeds"], mean["recipe"]
        spread = [f"{percent(mean[key]['mean'])} ± {percent(mean[key]['sd'])}" for key in SPREAD]
        rows.append([f"mean of {name}, {len(seeds)} seeds", *spread, *[""] * (len(header) - 3)])
    return header, rows


def detail_tables(runs: Sequence[Scored]) -> Iterator[Table]:
    """The IoU of each class, then the further metrics: a column for each run, at most `COLUMNS` to a table.

    A dash where a class is neither labelled nor predicted, or a run has no such metric.
    """
    classes = dict.fromkeys(name for run in runs for name in run.score.classes)
    metrics = {(label, metric.unit): metric for run in runs for label, metric in run.score.metrics.items()}
    iou = [dict(zip(run.score.classes, scores(run.score.confusion).iou, strict=True)) for run in runs]
    for first in range(0, len(runs), COLUMNS):
        part = slice(first, first + COLUMNS)
        numbers = [f"run {index}" for index in range(first + 1, first + 1 + len(runs[part]))]
        one = len(runs) == 1
        rows = [[name, *(percent(of_run.get(name)) for of_run in iou[part])] for name in classes]
        yield (["class", "IoU %"] if one else ["IoU %", *numbers]), rows
        if metrics:
            rows = [
                [
                    metric_title(label, metric.unit, metric.direction),
                    *(_value(run.score.metrics.get(label), metric.unit) for run in runs[part]),
                ]
                for (label, _), metric in metrics.items()
            ]
            yield ["metric", *([""] if one else numbers)], rows


def means(runs: Sequence[Scored]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds of each recipe that has several of them here."""
    groups: dict[tuple[Path, str], dict[int, Scored]] = {}
    for run in runs:
        if run.path.suffix not in FILES:  # a folder that was renamed may hold several recipes, and copies of a run
            groups.setdefault((run.path.parent, run.identity.id), {}).setdefault(run.identity.seed, run)
    found = []
    for by_seed in groups.values():
        group = list(by_seed.values())
        if len(group) < 2:
            continue
        mean: dict[str, Any] = {"recipe": group[0].path.parent.name, "seeds": [run.identity.seed for run in group]}
        for key in SPREAD:
            values = [getattr(scores(run.score.confusion), key) for run in group]
            mean[key] = {"mean": statistics.fmean(values), "sd": statistics.stdev(values)}
        found.append(mean)
    return found


def _value(metric: MetricResult | None, unit: str) -> str:
    """The headline of a metric in the unit of its row; a dash without one, and in another unit."""
    if metric is None or metric.unit != unit or metric.headline is None:
        return NOTHING
    return percent(metric.headline) if unit == "%" else f"{metric.headline:.3g}"


def to_json(runs: Sequence[Scored], split: str) -> dict[str, Any]:
    """The split; for each run its scores, classes, metrics and confusion matrix; and the means over seeds."""
    plain = {"split": split, "runs": [_run_to_json(run) for run in runs], "means": means(runs)}
    return EvaluateOutput.model_validate(plain).model_dump()


def _run_to_json(run: Scored) -> dict[str, Any]:
    score = scores(run.score.confusion)
    pairs = zip(run.score.classes, score.iou, score.dice, strict=True)
    return {
        "run": str(run.path),
        "name": run.identity.name,
        "id": run.identity.id,
        "seed": run.identity.seed,
        "role": run.identity.role,
        "network": run.identity.network,
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
        yield [str(run.path), name, *("" if value is None else f"{value:.6f}" for value in (miou, accuracy))]
