"""A few validation images with the predictions of the compared networks, and their latency, computed on the CPU."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kd import machine
from kd.compare.comparison import Comparison, Entry, Latencies
from kd.compare.page.chosen import Chosen, Known, NoSuchImageError, choose, find_named, known
from kd.components import Maker
from kd.console import progress
from kd.data.dataset import read, resize_image
from kd.errors import DataError, RecipeError, StorageError, WeightsError
from kd.parts.loading import Notes
from kd.parts.networks import component_teacher
from kd.parts.trained import load_network
from kd.pictures import RGB, as_rgb
from kd.recipe import Recipe
from kd.runs import SPLIT, read_predictions, read_run_recipe
from kd.runs.kept_maps import Maps
from kd.scoring import WHOLE, predict, predict_sample
from kd.types import IGNORE, Sample, SegmentationDataset

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
    why: str = "spread"  # see `kd.compare.page.chosen`
    difference: float | None = None  # the first student's mIoU in this image minus that of its rival, a share


@dataclass(frozen=True)
class Pictures:
    """The images of a comparison's page."""

    pictures: tuple[Picture, ...]
    colors: tuple[tuple[int, int, int], ...]  # of the classes; empty if the data cannot be read
    problems: tuple[str, ...]  # a line for each thing that cannot be shown, with the reason
    latencies: Latencies | None = None  # measured for this page, unless the runs have stored all of them


def pictures(
    comparison: Comparison, *, count: int | None = None, named: Sequence[str] = (), quiet: bool = True
) -> Pictures:
    """Choose images and predict them, and time the networks.

    The images are those of the best, median and worst difference between the best student and its baseline (or its
    teacher), from the counts that the runs have stored, and some that are spread evenly over the split. Every network
    is that of its first seed; of many, the best students are shown. Missing weights or data are reported and left out.

    Args:
        comparison: of the networks.
        count: of images; None: all whose predictions the runs have kept, see `kd.compare.page.chosen.choose`.
        named: images that are shown first.
        quiet: print no line that counts the predictions that are computed.

    Raises:
        RecipeError: an image is named that the split does not have.
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
        chosen, samples = _chosen(dataset, known(comparison, subject), kept[subject.key], count, named)
    except NoSuchImageError:
        raise
    except (RecipeError, DataError, StorageError, RuntimeError, MemoryError) as error:
        return Pictures((), (), (f"the {SPLIT} images cannot be read: {error}",))
    networks = _Networks(comparison, recipe, dataset, problems)
    images = list(samples.values())
    missing = {entry.key: sum(sample.name not in kept[entry.key] for sample in images) for entry in entries}
    total, done, predicted = sum(missing.values()), 0, {}
    with progress("predictions for the page", total, quiet=quiet or not total) as advance:
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
    latencies = None
    if not comparison.all_timed:
        latencies = networks.latencies(entries, samples[chosen[0].place].image)
    return Pictures(shown, tuple(dataset.colors), tuple(problems), latencies)


def _chosen(
    dataset: SegmentationDataset, stored: Known, kept: Maps, count: int | None, named: Sequence[str]
) -> tuple[list[Chosen], dict[int, Sample]]:
    """The images to show, and their samples; what is stored does not count if the data have changed since."""
    for images in (stored, Known()) if len(stored.names) == len(dataset) else (Known(),):
        names = images.names or [read(dataset, place).name for place in range(len(dataset) if named else 0)]
        places = find_named(named, names)
        chosen = choose(images, kept, length=len(dataset), count=count, named=places)
        samples = {each.place: read(dataset, each.place) for each in chosen}
        if not images.names or all(sample.name == images.names[place] for place, sample in samples.items()):
            break
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


def _latency(network: nn.Module, image: Tensor) -> float:
    """Milliseconds of a forward pass of one image (1, C, H, W): the median, after one that is not timed."""
    seconds: list[float] = []
    precision = machine.choose("cpu", "fp32")
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
        precision, found = machine.choose("cpu"), dict(kept)
        for sample in samples:
            predicted = found.get(sample.name)
            if predicted is None or predicted.shape != tuple(sample.image.shape[1:]):
                if (network := self._get(entry)) is None:
                    return {}
                found[sample.name] = predict_sample(network, self.recipe, precision, sample)
        return found

    def latencies(self, entries: Sequence[Entry], image: Tensor) -> Latencies | None:
        """The milliseconds of a forward pass of an image (C, H, W), each kind timed once; None if none loads."""
        (height, width), threads = self.recipe.scored_size, torch.get_num_threads()
        resized = resize_image(image, (height, width))[None]
        networks = {kind: self._get(entry) for kind, entry in {e.kind: e for e in reversed(entries)}.items()}
        timed = {kind: _latency(network, resized) for kind, network in networks.items() if network is not None}
        known = {entry.key: timed[entry.kind] for entry in self.comparison.entries if entry.kind in timed}
        how = (
            f"one image of {height} × {width}, float32, {threads} thread{'s' * (threads > 1)} of this machine's "
            f"processor, median of up to {PASSES} forward passes"
        )
        return Latencies(known, how) if known else None

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
