"""A few validation images with each compared network's prediction, computed here and now on the CPU."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kd.compare.comparison import SPLIT, Comparison, Entry
from kd.compare.figures import RGB, as_rgb
from kd.components import Maker
from kd.data.dataset import read, resize_image
from kd.errors import DataError, RecipeError, StorageError
from kd.machine import Precision, choose
from kd.networks.weights import load_into
from kd.recipe import Recipe
from kd.runs import read_run_recipe
from kd.scoring import full_size, predict
from kd.trained import load_network
from kd.types import IGNORE, Sample, SegmentationDataset

CANDIDATES = 24  # images that are looked at to choose those to show

Map = NDArray[np.uint8]
Predict = Callable[[Sample], Map]


@dataclass(frozen=True)
class Picture:
    """One image, and what the networks make of it."""

    name: str
    image: RGB
    labels: Map  # (H, W), IGNORE everywhere where the image has none
    predictions: dict[str, Map]  # by the entries' keys


@dataclass(frozen=True)
class Pictures:
    """The images of a comparison's page."""

    pictures: tuple[Picture, ...]
    colors: tuple[tuple[int, int, int], ...]  # of the classes; empty where the data are not at hand
    problems: tuple[str, ...]  # what cannot be shown, and why


def pictures(comparison: Comparison, *, count: int = 6) -> Pictures:
    """Choose images and predict them.

    Half of the images lie evenly over the split; the others are those, of up to 24 that lie evenly, in which the first
    student and its baseline differ most. Each network is that of its first seed. What is missing, weights or data, is
    said and left out.
    """
    subject = next(iter(comparison.of_role("student") or [e for e in comparison.entries if e.runs]), None)
    if subject is None:
        return Pictures((), (), ("no run directory: nothing to predict with",))
    try:
        recipe = read_run_recipe(subject.runs[0], trust=comparison.trust)
        dataset = Maker(recipe).dataset(SPLIT)
        samples = {index: read(dataset, index) for index in spread(len(dataset), CANDIDATES)}
    except (RecipeError, DataError, StorageError) as error:
        return Pictures((), (), (f"the {SPLIT} images cannot be read: {error}",))
    networks, problems = _networks(comparison, recipe, dataset)
    predictors = {key: _Predictor(network, recipe, choose("cpu")) for key, network in networks.items()}
    chosen = choose_shown(samples, count, predictors.get(subject.key), predictors.get(subject.baseline or ""))
    shown = tuple(
        Picture(
            name=samples[index].name,
            image=as_rgb(samples[index].image.numpy()),
            labels=_labels(samples[index]),
            predictions={key: predictor(samples[index]) for key, predictor in predictors.items()},
        )
        for index in chosen
    )
    return Pictures(shown, tuple(dataset.colors), tuple(problems))


def spread(length: int, count: int) -> list[int]:
    """`count` positions that lie evenly in 0 … length-1, each in the middle of its share; all of them if few."""
    if length <= count:
        return list(range(length))
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]


@dataclass(frozen=True)
class _Predictor:
    network: nn.Module
    recipe: Recipe
    precision: Precision
    seen: dict[str, Map] = field(default_factory=dict)  # choosing and showing ask for the same images

    def __call__(self, sample: Sample) -> Map:
        """Classes (H, W) at the image's own size, as the scores were taken."""
        if sample.name not in self.seen:
            image = resize_image(sample.image, self.recipe.scored_size)
            logits = predict(self.network, image[None], self.precision, self.recipe.evaluate)[0]
            classes = full_size(logits, tuple(sample.image.shape[1:]))
            self.seen[sample.name] = classes.to("cpu", torch.uint8).numpy()
        return self.seen[sample.name]


def choose_shown(
    samples: Mapping[int, Sample], count: int, student: Predict | None, baseline: Predict | None
) -> list[int]:
    """Which of the samples to show: half of `count` evenly, half where student and baseline differ most.

    Without one of the two, all evenly.
    """
    indices = list(samples)
    if student is None or baseline is None or len(indices) <= count:
        return [indices[position] for position in spread(len(indices), count)]
    chosen = {indices[position] for position in spread(len(indices), count - count // 2)}
    differing = {index: _share_differing(samples[index], student, baseline) for index in indices if index not in chosen}
    most = sorted(differing, key=lambda index: (-differing[index], index))
    return sorted(chosen | set(most[: count // 2]))


def _share_differing(sample: Sample, student: Predict, baseline: Predict) -> float:
    scored = _labels(sample) != IGNORE
    return float(((student(sample) != baseline(sample)) & scored).mean())


def _labels(sample: Sample) -> Map:
    if sample.labels is None:
        return np.full(tuple(sample.image.shape[1:]), IGNORE, np.uint8)
    return sample.labels.numpy()


def _networks(
    comparison: Comparison, recipe: Recipe, dataset: SegmentationDataset
) -> tuple[dict[str, nn.Module], list[str]]:
    """The entries' networks, and a line for each that cannot be had."""
    networks, problems = {}, []
    for entry in comparison.entries:
        try:
            network = _network(comparison, entry, recipe, dataset)
        except (RecipeError, StorageError, ValueError, OSError) as error:
            problems.append(f"{comparison.label(entry)}: its predictions are not shown: {error}")
        else:
            networks[entry.key] = network
    return networks, problems


def _network(comparison: Comparison, entry: Entry, recipe: Recipe, dataset: SegmentationDataset) -> nn.Module:
    if entry.runs:
        return load_network(entry.runs[0], trust=comparison.trust)
    use = recipe.teacher.network if recipe.teacher else None
    if use is None or use.use != entry.network or recipe.teacher is None or recipe.teacher.weights is None:
        raise StorageError("it has no run directory")
    network = Maker(recipe).network(use, len(dataset.class_names), dataset.in_channels)
    weights = recipe.teacher.weights
    load_into(network, weights if isinstance(weights, str) else weights.options())
    return network.eval()


def run_texts(runs: Sequence[Path]) -> list[tuple[str, str]]:
    """The files that say how runs were made, as (path, text)."""
    files = [run / name for run in runs for name in ("recipe.yaml", "environment.json")]
    return [(str(file), file.read_text(encoding="utf-8")) for file in files if file.is_file()]
