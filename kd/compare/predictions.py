"""A few validation images with the predictions of the compared networks, and their latency, computed on the CPU."""

import math
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.compare.comparison import SPLIT, Comparison, Entry
from kd.components import Maker
from kd.console import progress
from kd.data.dataset import read, resize_image
from kd.errors import DataError, RecipeError, StorageError, WeightsError
from kd.machine import choose
from kd.parts.loading import Notes
from kd.parts.networks import component_teacher
from kd.parts.trained import load_network
from kd.pictures import RGB, as_rgb
from kd.reading import read_text
from kd.recipe import Recipe
from kd.runs import read_counts, read_predictions, read_run_recipe, spread
from kd.runs.counts import COUNTS, TEACHER_COUNTS
from kd.runs.kept_maps import Maps
from kd.scoring import WHOLE, predict, predict_sample
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


def pictures(comparison: Comparison, *, count: int = SHOWN, quiet: bool = True) -> Pictures:
    """Choose images and predict them, and time the networks.

    The images are those of the best, median and worst difference between the best student and its baseline (or its
    teacher), from the counts that the runs have stored, and some that are spread evenly over the split. Every network
    is that of its first seed; of many, the best students are shown. Missing weights or data are reported and left out.
    Unless `quiet`, a line counts the predictions that are computed.
    """
    ranked = _ranked(comparison)
    subject = next((entry for entry in ranked if entry.run_dirs), None)
    if subject is None:
        return Pictures((), (), ("there is no run directory, and so no network for predictions",))
    entries, problems = ranked[:NETWORKS], []
    if len(ranked) > NETWORKS:
        problems.append(f"predictions of {NETWORKS} of {len(ranked)} networks are shown, those of the best students")
    try:
        recipe = read_run_recipe(subject.run_dirs[0], trust=comparison.trust)
        dataset = Maker(recipe).dataset(SPLIT)
        kept = {entry.key: _kept(entry, subject) for entry in entries}
        chosen, samples = _chosen(comparison, subject, dataset, kept[subject.key], count)
    except (RecipeError, DataError, StorageError, RuntimeError, MemoryError) as error:
        return Pictures((), (), (f"the {SPLIT} images cannot be read: {error}",))
    networks = _Networks(comparison, recipe, dataset, problems)
    images = list(samples.values())
    missing = {entry.key: sum(sample.name not in kept[entry.key] for sample in images) for entry in entries}
    total, done, predicted = sum(missing.values()), 0, {}
    counted = nullcontext(lambda done: None) if quiet or not total else progress("predictions for the page", total)
    with counted as advance:
        for entry in entries:
            predicted[entry.key] = networks.maps(entry, images, kept[entry.key])
            done += missing[entry.key]
            advance(done)
    shown = tuple(
        Picture(
            name=samples[place].name,
            image=as_rgb(samples[place].image.numpy()),
            labels=_labels(samples[place]),
            predictions={key: maps[samples[place].name] for key, maps in predicted.items() if maps},
            why=why,
            difference=difference,
        )
        for place, why, difference in chosen
    )
    (height, width), threads = recipe.scored_size, torch.get_num_threads()
    timed = (
        f"one image of {height} × {width}, float32, {threads} thread{'s' * (threads > 1)} of this machine's processor, "
        f"median of up to {PASSES} forward passes"
    )
    image = resize_image(samples[chosen[0].place].image, (height, width))[None]
    return Pictures(shown, tuple(dataset.colors), tuple(problems), networks.latencies(entries, image), timed)


def _chosen(
    comparison: Comparison, subject: Entry, dataset: SegmentationDataset, kept: Maps, count: int
) -> tuple[list[Chosen], dict[int, Sample]]:
    """The images to show, and their samples: those with kept predictions, where the subject's run has kept some."""
    names, differences = _differences(comparison, subject)
    if len(names) != len(dataset):
        names, differences = (), None
    places = [place for place, name in enumerate(names) if name in kept] or range(len(dataset))
    chosen = choose_shown(places, count, differences)
    samples = {each.place: read(dataset, each.place) for each in chosen}
    if names and any(samples[place].name != names[place] for place in samples):  # the data have changed since
        chosen = choose_shown(range(len(dataset)), count, None)
        samples = {each.place: read(dataset, each.place) for each in chosen}
    return chosen, samples


def _kept(entry: Entry, subject: Entry) -> Maps:
    """The predictions that an entry's first run has kept, by image; a teacher's are with its student's, too."""
    own = read_predictions(entry.run_dirs[0])[0] if entry.run_dirs else {}
    return {**own, **read_predictions(subject.run_dirs[0])[1]} if entry.key == subject.teacher else own


def _ranked(comparison: Comparison) -> list[Entry]:
    """The entries whose predictions matter most first: the best student, its baseline and teacher, other students."""
    students = comparison.best_first
    related = [comparison.get(key) for student in students[:1] for key in (student.baseline, student.teacher)]
    others = sorted(comparison.entries, key=lambda entry: math.inf if math.isnan(entry.miou) else -entry.miou)
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


def choose_shown(places: Sequence[int], count: int, differences: NDArray[np.float64] | None) -> list[Chosen]:
    """Choose images to show: a quarter each of the best, median and worst differences, the rest spread evenly.

    Args:
        places: of the images to choose from, in the dataset.
        count: how many are shown, at most.
        differences: of every image of the dataset, NaN where there is none; None: all are spread evenly.
    """
    evenly = [places[index] for index in spread(len(places), count)]
    if differences is None:
        return [Chosen(place, "spread", None) for place in evenly]
    known = [place for place in places if not math.isnan(differences[place])]
    order = sorted(known, key=lambda place: (-differences[place], place))
    part = count // 4
    middle = max((len(order) - part) // 2, 0)
    chosen: dict[int, str] = {}
    for why, some in (("best", order[:part]), ("worst", order[::-1][:part]), ("median", order[middle:][:part])):
        chosen |= {place: why for place in some if place not in chosen}
    for place in evenly:
        if len(chosen) < count:
            chosen.setdefault(place, "spread")
    kinds = ("best", "median", "worst", "spread")
    found = [Chosen(place, why, _known(differences[place])) for place, why in chosen.items()]
    return sorted(found, key=lambda each: (kinds.index(each.why), -(each.difference or 0.0), each.place))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


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


@dataclass(frozen=True)
class _Networks:
    """The networks of entries, each loaded when it is first needed.

    Attributes:
        comparison: of the entries.
        recipe: of the run that the images are from.
        dataset: that it makes.
        problems: receives a line for each network that cannot be loaded.
    """

    comparison: Comparison
    recipe: Recipe
    dataset: SegmentationDataset
    problems: list[str]
    _loaded: dict[str, nn.Module | None] = field(default_factory=dict)

    def maps(self, entry: Entry, samples: Sequence[Sample], kept: Maps) -> Maps:
        """The predictions of images, by name: those that are kept, else of the loaded network; none without either."""
        precision, found = choose("cpu"), dict(kept)
        for sample in samples:
            predicted = found.get(sample.name)
            if predicted is None or predicted.shape != tuple(sample.image.shape[1:]):
                if (network := self._get(entry)) is None:
                    return {}
                found[sample.name] = predict_sample(network, self.recipe, precision, sample)
        return found

    def latencies(self, entries: Sequence[Entry], image: Tensor) -> dict[str, float]:
        """The milliseconds of a forward pass, by the key of one entry of each kind of network."""
        kinds = {(entry.network, entry.parameters): entry for entry in reversed(entries)}
        networks = {entry.key: self._get(entry) for entry in kinds.values()}
        return {key: _latency(network, image) for key, network in networks.items() if network is not None}

    def _get(self, entry: Entry) -> nn.Module | None:
        if entry.key not in self._loaded:
            self._loaded[entry.key] = None
            try:
                self._loaded[entry.key] = _network(self.comparison, entry, self.recipe, self.dataset)
            except (RecipeError, StorageError, WeightsError, ValueError, OSError, RuntimeError, MemoryError) as error:
                self.problems.append(f"{self.comparison.label(entry)}: its network cannot be loaded: {error}")
        return self._loaded[entry.key]


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
