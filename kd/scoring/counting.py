"""Score a network on a split, by the pixels that are counted in each image."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.data.dataset import pixel_spacing
from kd.data.loader import evaluation_batches
from kd.machine import Precision
from kd.memory import give_back
from kd.metrics import Confusion
from kd.recipe import EvaluateConfig
from kd.runs import Against, ImageCounts, SplitResult
from kd.scoring.measures import Measure
from kd.scoring.predicting import WHOLE, at_size, evaluating, full_size, predict
from kd.types import IGNORE, SegmentationDataset

TRIMMED = 16  # batches after which freed memory is given back


class Share(NamedTuple):
    """The counts of one process on its images: plain data that processes can exchange."""

    confusion: NDArray[np.int64]  # (K, K)
    per_image: ImageCounts
    states: dict[str, dict[str, NDArray[Any]]]  # of the further metrics, by label


@dataclass(frozen=True)
class Counted:
    """The counts of this process, which make one score together with the shares of the other processes."""

    classes: tuple[str, ...]
    share: Share
    measures: Mapping[str, Measure]
    against: Against = "labels"
    groups: tuple[str, ...] | None = None  # of the split's images, see `SegmentationDataset`

    def result(self, shares: Sequence[Share]) -> SplitResult:
        """The score of the whole split.

        Args:
            shares: of all processes, by rank; image i of the dataset is in share i mod world.
        """
        length = sum(len(share.per_image.names) for share in shares)
        places = [(index % len(shares), index // len(shares)) for index in range(length)]
        names = tuple(shares[rank].per_image.names[place] for rank, place in places)
        counts = np.array([shares[rank].per_image.counts[place] for rank, place in places], np.int64)
        return SplitResult(
            confusion=np.sum([share.confusion for share in shares], axis=0),
            classes=list(self.classes),
            images=length,
            metrics={
                label: measure.result([share.states[label] for share in shares])
                for label, measure in self.measures.items()
            },
            per_image=ImageCounts(
                names,
                counts.reshape(length, len(self.classes), 3),
                None if self.groups is None else tuple(self.groups[:length]),
            ),
            against=self.against,
        )


def score(
    network: nn.Module,
    dataset: SegmentationDataset,
    *,
    size: tuple[int, int],
    precision: Precision,
    how: EvaluateConfig = WHOLE,
    metrics: Mapping[str, Measure] | None = None,
    batch_size: int = 8,
    workers: int = 0,
    predicted: Callable[[Int64[Tensor, "H W"]], None] = lambda predictions: None,
) -> SplitResult:
    """Score a network on every labelled image of a split, in this process alone: see `score_beside`."""
    counted, _ = score_beside(
        network,
        None,
        dataset,
        size=size,
        precision=precision,
        how=how,
        metrics=metrics,
        batch_size=batch_size,
        workers=workers,
        predicted=predicted,
    )
    return counted.result([counted.share])


@torch.no_grad()
def score_beside(
    network: nn.Module,
    teacher: nn.Module | None,
    dataset: SegmentationDataset,
    *,
    size: tuple[int, int],
    precision: Precision,
    how: EvaluateConfig = WHOLE,
    metrics: Mapping[str, Measure] | None = None,
    unlabelled: bool = False,
    batch_size: int = 8,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    interrupt: Callable[[], None] = lambda: None,
    waiting: Callable[[], None] = lambda: None,
    predicted: Callable[[Int64[Tensor, "H W"]], None] = lambda predictions: None,
) -> tuple[Counted, Counted | None]:
    """Score a network against the labels, and against the classes that a teacher predicts.

    Both scores are over the labelled pixels only. Images are resized to `size`; logits are resized (bilinear,
    half-pixel centres) to the size of each label map before the argmax, so that the labels are never resized.

    Args:
        network: keeps the `Network` contract; its training mode is restored afterwards.
        teacher: as `network`; without a teacher the second score is None.
        dataset: one split.
        size: (H, W) of the images that the networks receive.
        precision: where and how they run.
        how: window, scales and flip.
        metrics: further metrics of the first score, built for this call; probabilities are computed for them only.
        unlabelled: whether no pixel is labelled: the teacher's classes take the place of the labels, and there is no
            second score.
        batch_size: images per batch.
        workers: number of processes that read images.
        rank: of this process, 0 … world-1, which scores every `world`-th image.
        world: number of processes.
        interrupt: called after each batch, equally often on every rank; may raise to stop.
        waiting: called once a second while waiting for images; may raise to stop.
        predicted: called with the classes that the network predicts for each image, in the order of the dataset.
    """
    classes, measures = dataset.class_names, metrics or {}
    by_labels, by_teacher = Confusion(len(classes)), Confusion(len(classes))
    names: list[str] = []

    def count(labels: Tensor, logits: Tensor, *teacher_logits: Tensor) -> None:
        """Count one image: a function, so that its maps are freed before those of the next image."""
        teacher_predictions = [full_size(maps, labels.shape) for maps in teacher_logits]  # (H, W) each
        predictions = full_size(logits, labels.shape)
        if unlabelled:
            (labels,), teacher_predictions = teacher_predictions, []
        labels = labels.to(predictions.device)
        by_labels.count(labels, predictions)
        predicted(predictions)
        for classes_of_teacher in teacher_predictions:
            by_teacher.count(classes_of_teacher.masked_fill(labels == IGNORE, IGNORE), predictions)
        if measures:
            probabilities, integers = at_size(logits, labels.shape).softmax(0), labels.long()
            spacing = pixel_spacing(dataset, rank + world * (len(by_labels.images) - 1))
            for measure in measures.values():
                measure.update(integers, probabilities, spacing)

    networks = [network] if teacher is None else [network, teacher]
    with ExitStack() as modes:
        for module in networks:
            modes.enter_context(evaluating(module))
        batches = evaluation_batches(
            dataset, size, batch_size=batch_size, rank=rank, world=world, workers=workers, waiting=waiting
        )
        for number, batch in enumerate(batches, start=1):
            logits = [predict(module, batch.images, precision, how) for module in networks]
            for labels, *logits_of_image in zip(batch.labels, *logits, strict=True):
                count(labels, *logits_of_image)
            names += batch.names
            if number % TRIMMED == 0:
                give_back()
            interrupt()
        if -(-len(names) // batch_size) < -(-len(range(0, len(dataset), world)) // batch_size):
            interrupt()  # rank 0 has one more batch
    states = {label: measure.state() for label, measure in measures.items()}
    against: Against = "teacher" if unlabelled else "labels"
    counted = Counted(
        classes, _share(by_labels, names, states), measures, against, groups=getattr(dataset, "groups", None)
    )
    return counted, None if teacher is None or unlabelled else Counted(classes, _share(by_teacher, names, {}), {})


def _share(confusion: Confusion, names: Sequence[str], states: dict[str, dict[str, NDArray[Any]]]) -> Share:
    return Share(confusion.state()["confusion"], ImageCounts(tuple(names), np.array(confusion.images)), states)
