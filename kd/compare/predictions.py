"""A few validation images with the predictions of the compared networks, and their latency, computed on the CPU."""

import math
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.compare.comparison import SPLIT, Comparison, Entry
from kd.components import Maker
from kd.data.dataset import read, resize_image
from kd.errors import DataError, RecipeError, StorageError
from kd.machine import Precision, choose
from kd.parts.loading import Notes
from kd.parts.networks import component_teacher
from kd.parts.trained import load_network
from kd.pictures import RGB, as_rgb
from kd.reading import read_text
from kd.recipe import Recipe
from kd.runs import read_counts, read_run_recipe
from kd.runs.counts import COUNTS, TEACHER_COUNTS
from kd.scoring import WHOLE, full_size, predict
from kd.types import IGNORE, Sample, SegmentationDataset

SHOWN = 12  # images of a page
NETWORKS = 6  # networks whose predictions a page shows
PASSES, LONGEST = 5, 2.0  # timed forward passes of each network, and seconds after which no further one is timed

Map = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """One image, its labels and the networks' predictions."""

    name: str
    image: RGB
    labels: Map  # (H, W); all IGNORE for an image without labels
    predictions: dict[str, Map]  # by the entries' keys
    why: str = "spread"  # "best", "median" or "worst" by `difference`; "spread": evenly over the split
    difference: float | None = None  # the first student's mIoU in this image minus that of its rival, a share


@dataclass(frozen=True)
class Pictures:
    """The images of a comparison's page."""

    pictures: tuple[Picture, ...]
    colors: tuple[tuple[int, int, int], ...]  # of the classes; empty if the data cannot be read
    problems: tuple[str, ...]  # a line for each thing that cannot be shown, with the reason
    latencies: Mapping[str, float] = field(default_factory=dict)  # ms of one image, by the entries' keys
    timed: str = ""  # how the latencies were measured


class Chosen(NamedTuple):
    """An image to show."""

    place: int
    why: str
    difference: float | None


def pictures(comparison: Comparison, *, count: int = SHOWN) -> Pictures:
    """Choose images and predict them, and time the networks.

    The images are those of the best, median and worst difference between the best student and its baseline (or its
    teacher), from the counts that the runs have stored, and some that are spread evenly over the split. Every network
    is that of its first seed; of many, the best students are shown. Missing weights or data are reported and left out.
    """
    ranked = _ranked(comparison)
    subject = next((entry for entry in ranked if entry.run_dirs), None)
    if subject is None:
        return Pictures((), (), ("there is no run directory, and so no network for predictions",))
    try:
        recipe = read_run_recipe(subject.run_dirs[0], trust=comparison.trust)
        dataset = Maker(recipe).dataset(SPLIT)
        names, differences = _differences(comparison, subject)
        chosen = choose_shown(len(dataset), count, differences if len(names) == len(dataset) else None)
        samples = {each.place: read(dataset, each.place) for each in chosen}
        if any(each.difference is not None and samples[each.place].name != names[each.place] for each in chosen):
            chosen = choose_shown(len(dataset), count, None)  # the data have changed since
            samples = {each.place: read(dataset, each.place) for each in chosen}
    except (RecipeError, DataError, StorageError, RuntimeError, MemoryError) as error:
        return Pictures((), (), (f"the {SPLIT} images cannot be read: {error}",))
    networks, problems = _networks(comparison, ranked[:NETWORKS], recipe, dataset)
    precision = choose("cpu")
    predict_one = {key: partial(_predicted, network, recipe, precision) for key, network in networks.items()}
    shown = tuple(
        Picture(
            name=samples[place].name,
            image=as_rgb(samples[place].image.numpy()),
            labels=_labels(samples[place]),
            predictions={key: one(samples[place]) for key, one in predict_one.items()},
            why=why,
            difference=difference,
        )
        for place, why, difference in chosen
    )
    if len(ranked) > NETWORKS:
        problems.append(f"predictions of {NETWORKS} of {len(ranked)} networks are shown, those of the best students")
    image = resize_image(samples[chosen[0].place].image, recipe.scored_size)[None]
    latencies = {key: _latency(network, image) for key, network in networks.items()}
    height, width = recipe.scored_size
    timed = (
        f"one image of {height} × {width}, float32, {torch.get_num_threads()} threads of this machine's processor, "
        f"median of up to {PASSES} forward passes"
    )
    return Pictures(shown, tuple(dataset.colors), tuple(problems), latencies, timed)


def _ranked(comparison: Comparison) -> list[Entry]:
    """The entries whose predictions matter most first: the best student, its baseline and teacher, other students."""

    def by_score(entries: Sequence[Entry]) -> list[Entry]:
        return sorted(entries, key=lambda entry: -math.inf if math.isnan(entry.miou) else -entry.miou)

    students = by_score(comparison.of_role("student"))
    related = [comparison.get(key) for student in students[:1] for key in (student.baseline, student.teacher)]
    others = by_score(comparison.entries)
    ordered = [entry for entry in (*students[:1], *related, *students, *others) if entry is not None]
    return list({entry.key: entry for entry in ordered}.values())


def _differences(comparison: Comparison, subject: Entry) -> tuple[tuple[str, ...], NDArray[np.float64] | None]:
    """The names of the scored images, and the subject's mIoU in each minus its baseline's, or its teacher's.

    NaN for an image without labels; no names and None where the runs have not stored the counts.
    """
    rival, file = comparison.get(subject.baseline), COUNTS
    if rival is None or not rival.run_dirs:
        rival, file = subject, TEACHER_COUNTS
    ours = read_counts(subject.run_dirs[0]).get(SPLIT)
    theirs = read_counts(rival.run_dirs[0], file).get(SPLIT)
    if ours is None or theirs is None or ours.names != theirs.names:
        return (), None
    return ours.names, _image_miou(ours.counts) - _image_miou(theirs.counts)


def _image_miou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mIoU of each image over the classes that are labelled or predicted in it."""
    hits, predicted, labelled = np.moveaxis(counts, 2, 0)
    union = predicted + labelled - hits
    iou = np.where(union > 0, hits / np.maximum(union, 1), np.nan)
    some = np.where(labelled.sum(1) > 0, np.nansum(iou, 1), np.nan)
    return np.asarray(some / np.maximum((union > 0).sum(1), 1))


def choose_shown(length: int, count: int, differences: NDArray[np.float64] | None) -> list[Chosen]:
    """Choose images to show: a quarter each of the best, median and worst differences, the rest spread evenly.

    Args:
        length: number of images.
        count: how many are shown, at most.
        differences: of each image, NaN where there is none; None: all are spread evenly.
    """
    if differences is None or length <= count // 4:
        return [Chosen(index, "spread", None) for index in spread(length, count)]
    order = [int(index) for index in np.argsort(-differences, kind="stable") if not math.isnan(differences[index])]
    part = count // 4
    middle = max((len(order) - part) // 2, 0)
    chosen: dict[int, str] = {}
    for why, indices in (("best", order[:part]), ("worst", order[::-1][:part]), ("median", order[middle:][:part])):
        chosen |= {index: why for index in indices if index not in chosen}
    for index in spread(length, count):
        if len(chosen) < count:
            chosen.setdefault(index, "spread")
    places = ("best", "median", "worst", "spread")
    found = [Chosen(index, why, _known(differences[index])) for index, why in chosen.items()]
    return sorted(found, key=lambda each: (places.index(each.why), -(each.difference or 0.0), each.place))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def spread(length: int, count: int) -> list[int]:
    """`count` positions spread evenly over 0 … length-1, each in the middle of its share; or all, if they are fewer."""
    if length <= count:
        return list(range(length))
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]


def _predicted(network: nn.Module, recipe: Recipe, precision: Precision, sample: Sample) -> Map:
    """Classes (H, W) at the image's own size, predicted as for the scores."""
    image = resize_image(sample.image, recipe.scored_size)
    logits = predict(network, image[None], precision, recipe.evaluate)[0]
    return full_size(logits, tuple(sample.image.shape[1:])).to("cpu", torch.uint8).numpy()


def _latency(network: nn.Module, image: Tensor) -> float:
    """Milliseconds of a forward pass of one image (1, C, H, W): the median, after one that is not timed."""
    seconds: list[float] = []
    precision = choose("cpu", "fp32")
    while len(seconds) <= PASSES and (len(seconds) < 2 or sum(seconds) < LONGEST):
        began = time.perf_counter()
        predict(network, image, precision, WHOLE)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[1:])


def _labels(sample: Sample) -> Map:
    if sample.labels is None:
        return np.full(tuple(sample.image.shape[1:]), IGNORE, np.uint8)
    return sample.labels.numpy()


def _networks(
    comparison: Comparison, entries: Sequence[Entry], recipe: Recipe, dataset: SegmentationDataset
) -> tuple[dict[str, nn.Module], list[str]]:
    """The entries' networks, and a line for each that cannot be loaded."""
    networks, problems = {}, []
    for entry in entries:
        try:
            network = _network(comparison, entry, recipe, dataset)
        except (RecipeError, StorageError, ValueError, OSError, RuntimeError, MemoryError) as error:
            problems.append(f"{comparison.label(entry)}: its predictions are not shown: {error}")
        else:
            networks[entry.key] = network
    return networks, problems


def _network(comparison: Comparison, entry: Entry, recipe: Recipe, dataset: SegmentationDataset) -> nn.Module:
    if entry.run_dirs:
        return load_network(entry.run_dirs[0], trust=comparison.trust)
    use = recipe.teacher.network if recipe.teacher else None
    if use is None or use.use != entry.network:
        raise StorageError("it has no run directory")
    notes = Notes()
    network = component_teacher(recipe, Maker(recipe), use, dataset, notes)
    if notes.drawn:
        raise StorageError("it has no run directory, and its weights were drawn at random")
    return network.eval()


# the folder of a recipe, of code or of a run in a run's recipe: a page may be passed on, and it is this machine's
_FOLDER = re.compile(r"""\b(recipe|use|run): (['"]?)(?:/|[A-Za-z]:[\\/])[^'",{}\n]*[\\/]""")


def run_texts(run_dirs: Sequence[Path]) -> list[tuple[str, str]]:
    """The recipes and environments of runs, as (path, text); of a file that cannot be read, why."""
    files = [(run_dir, run_dir / name) for run_dir in run_dirs for name in ("recipe.yaml", "environment.json")]
    texts = []
    for run_dir, file in files:
        try:
            text = read_text(file, "a page of text", StorageError, inside=run_dir)
            texts.append((str(file), _FOLDER.sub(r"\1: \2", text) if file.suffix == ".yaml" else text))
        except StorageError as error:
            texts.append((str(file), str(error)))
    return texts
