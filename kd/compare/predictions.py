"""A few validation images with the prediction of each compared network, computed on the CPU."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

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
from kd.runs import read_run_recipe
from kd.scoring import full_size, predict
from kd.types import IGNORE, Sample, SegmentationDataset

CANDIDATES = 24  # images from which the shown ones are chosen

Map = NDArray[np.uint8]
Predict = Callable[[Sample], Map]


@dataclass(frozen=True)
class Picture:
    """One image, its labels and the networks' predictions."""

    name: str
    image: RGB
    labels: Map  # (H, W); all IGNORE for an image without labels
    predictions: dict[str, Map]  # by the entries' keys


@dataclass(frozen=True)
class Pictures:
    """The images of a comparison's page."""

    pictures: tuple[Picture, ...]
    colors: tuple[tuple[int, int, int], ...]  # of the classes; empty if the data cannot be read
    problems: tuple[str, ...]  # a line for each thing that cannot be shown, with the reason


def pictures(comparison: Comparison, *, count: int = 6) -> Pictures:
    """Choose images and predict them.

    Half of the images are spread evenly over the split. The others are those of up to 24 evenly spread images in which
    the first student and its baseline differ most. Every network is that of its first seed. Missing weights or data are
    reported and left out.
    """
    subject = next(iter(comparison.of_role("student") or [e for e in comparison.entries if e.run_dirs]), None)
    if subject is None:
        return Pictures((), (), ("there is no run directory, and so no network for predictions",))
    try:
        recipe = read_run_recipe(subject.run_dirs[0], trust=comparison.trust)
        dataset = Maker(recipe).dataset(SPLIT)
        samples = {index: read(dataset, index) for index in spread(len(dataset), CANDIDATES)}
    except (RecipeError, DataError, StorageError, RuntimeError, MemoryError) as error:
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
    """`count` positions spread evenly over 0 … length-1, each in the middle of its share; or all, if they are fewer."""
    if length <= count:
        return list(range(length))
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]


@dataclass(frozen=True)
class _Predictor:
    network: nn.Module
    recipe: Recipe
    precision: Precision
    predicted: dict[str, Map] = field(default_factory=dict)  # by image: predicted once for choosing and showing

    def __call__(self, sample: Sample) -> Map:
        """Classes (H, W) at the image's own size, predicted as for the scores."""
        if sample.name not in self.predicted:
            image = resize_image(sample.image, self.recipe.scored_size)
            logits = predict(self.network, image[None], self.precision, self.recipe.evaluate)[0]
            classes = full_size(logits, tuple(sample.image.shape[1:]))
            self.predicted[sample.name] = classes.to("cpu", torch.uint8).numpy()
        return self.predicted[sample.name]


def choose_shown(
    samples: Mapping[int, Sample], count: int, student: Predict | None, baseline: Predict | None
) -> list[int]:
    """Choose samples to show: half of `count` spread evenly, half where student and baseline differ most.

    Without student or baseline, all are spread evenly.
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
    """The entries' networks, and a line for each that cannot be loaded."""
    networks, problems = {}, []
    for entry in comparison.entries:
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


def run_texts(run_dirs: Sequence[Path]) -> list[tuple[str, str]]:
    """The recipes and environments of runs, as (path, text); of a file that cannot be read, why."""
    files = [(run_dir, run_dir / name) for run_dir in run_dirs for name in ("recipe.yaml", "environment.json")]
    texts = []
    for run_dir, file in files:
        try:
            texts.append((str(file), read_text(file, "a page of text", StorageError, inside=run_dir)))
        except StorageError as error:
            texts.append((str(file), str(error)))
    return texts
