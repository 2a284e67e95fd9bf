"""Score a trained network."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from torch import Tensor

from kd.components import Maker
from kd.console import progress
from kd.errors import DataError, RecipeError
from kd.evaluation.masks import Masks
from kd.evaluation.targets import Target
from kd.evaluation.trained import Identity, Trained, load
from kd.machine import loader_workers
from kd.parts.assemble import precision_of
from kd.parts.checks.meeting import meet_scoring
from kd.parts.teacher.leakage import trained_on
from kd.parts.teacher.output import Channels, class_order
from kd.runs import OLD_FORMAT, SplitResult
from kd.scoring import make_metrics, score
from kd.types import SegmentationDataset


@dataclass(frozen=True)
class Scored:
    """The score of a network on a split."""

    path: Path  # a run directory, or a file
    identity: Identity
    score: SplitResult
    trained_on: int  # number of the split's images that the run was trained on; 0 for "train" itself, and of a file


def score_run(
    target: Target, split: str, *, predictions: Path | None = None, overwrite: bool = False, quiet: bool = True
) -> Scored:
    """Score a trained network on a split of its recipe's data, as the recipe states it.

    Labels keep the size of their files. Classes are matched by name, whatever their order. A warning names a run that
    was trained on images of the split.

    Args:
        target: the network.
        split: "train", "val" or "test".
        predictions: folder for the predicted masks; None writes none.
        overwrite: whether masks that are already there are replaced.
        quiet: whether no line shows the progress.

    Raises:
        RecipeError: the data have other classes or channels than the run; the recipe does not fit, or names code that
            is not trusted; a mask is already there.
        DataError: there is no such split, an image cannot be read, or no pixel is labelled.
        WeightsError: the weights are damaged or do not fit.
        StorageError: another file of the run is damaged, or a mask cannot be written.
    """
    trained = load(target)
    path, recipe, network = trained.path, trained.recipe, trained.network
    if trained.result is not None and trained.result.format == OLD_FORMAT:
        warnings.warn(f"{path}: not verified, because kd 0.2 or older wrote no manifest.json", stacklevel=2)
    for line in _otherwise(target, trained):
        warnings.warn(f"{path}: {line}", stacklevel=2)
    dataset = _dataset(target, split)
    _channels(trained, dataset).give(network)
    masks = None if predictions is None else Masks(predictions, dataset, overwrite=overwrite)
    seen = [] if split == "train" or trained.result is None else trained_on(path, dataset)
    if seen:
        number = len(seen) if len(seen) < len(dataset) else "all"
        warnings.warn(
            f"{path} was trained on {number} of the {len(dataset)} {split} images (first {seen[0]}), so this score "
            "is too high; score it on images that it has not seen",
            stacklevel=2,
        )
    precision = precision_of(recipe)
    network = network.to(precision.device).to(memory_format=precision.memory_format)
    meet_scoring(recipe, {"student": network}, dataset, precision)
    with progress(str(path), len(dataset), quiet=quiet) as advance:
        done = count(1)

        def after_image(predictions: Tensor) -> None:
            if masks is not None:
                masks.write(predictions)
            advance(next(done))

        scored = score(
            network,
            dataset,
            size=recipe.scored_size,
            precision=precision,
            how=recipe.evaluate,
            metrics=make_metrics(recipe, len(dataset.class_names)),
            batch_size=recipe.train.batch_size,
            workers=loader_workers(recipe.data.workers, precision.device),
            predicted=after_image,
        )
    if not scored.confusion.any():
        what = f"no pixel of the {len(dataset)} {split} images is labelled, so there is no score"
        raise DataError(f"{path}: {what}; label some of them")
    return Scored(path, trained.identity, scored, len(seen))


def _otherwise(target: Target, trained: Trained) -> Iterator[str]:
    """In what an exported file is scored otherwise than the recipe, or the command, states."""
    asked, done = target.recipe, trained.recipe
    size = "×".join(map(str, reversed(done.scored_size)))
    ways = {
        "another size": asked.scored_size != done.scored_size,
        "windows": asked.evaluate.window != done.evaluate.window,
        "several scales": asked.evaluate.scales != done.evaluate.scales,
    }
    if left_out := [name for name, differs in ways.items() if differs]:
        yield f"the file takes images of {size} alone: {' and '.join(left_out)} of the recipe left out"
    if getattr(trained.network, "output", "logits") == "classes" and asked.evaluate.metrics:
        yield "the file predicts classes alone: metrics see probabilities of 0 and 1"


def _dataset(target: Target, split: str) -> SegmentationDataset:
    try:
        return Maker(target.recipe).dataset(split)
    except (DataError, RecipeError) as error:
        reason = f"{target.path}: the split {split} cannot be read"
        raise type(error)(f"{reason}: {line}" for line in error.mistakes) from error


def _channels(trained: Trained, dataset: SegmentationDataset) -> Channels:
    """The order of the network's channels by the data's classes."""
    channels = trained.in_channels
    if channels != dataset.in_channels:
        raise RecipeError(
            f"{trained.path}: its network takes images of {channels} channels, but the data have "
            f"{dataset.in_channels}; score it on images of {channels} channels"
        )
    return Channels(
        class_order(
            trained.classes,
            dataset.class_names,
            str(trained.path),
            whose="the run",
            fix="score it on data with its classes, under the same names (data.args.classes=…)",
        )
    )
