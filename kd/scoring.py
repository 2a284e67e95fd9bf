"""Score a network on a split: training, comparison and `kd.evaluate` share this code."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kd.components import Maker, check_has, refused_by
from kd.data.dataset import pixel_spacing, resize_image
from kd.data.loader import evaluation_batches
from kd.errors import RecipeError
from kd.machine import Precision
from kd.memory import give_back
from kd.metrics import Confusion, Metric
from kd.recipe import EvaluateConfig, Recipe, Use
from kd.runs import Against, ImageCounts, MetricResult, SplitResult
from kd.types import IGNORE, Sample, SegmentationDataset, as_classes, resize, resize_bands, size_of

T = TypeVar("T")

BAND = 64  # rows of full-size logits that are held at once
TRIMMED = 16  # batches after which freed memory is given back
WHOLE = EvaluateConfig()  # the whole image at once, at its own scale


class Measure(NamedTuple):
    """A further metric of a recipe, built for one evaluation."""

    use: Use
    metric: Metric

    def update(
        self,
        labels: Int64[Tensor, "H W"],
        probabilities: Float[Tensor, "K H W"],
        spacing: tuple[float, float] | None = None,
    ) -> None:
        """Add one image, as `Metric.update`, with the size of its pixels in mm if the metric takes it."""
        known = {"spacing": spacing} if "spacing" in inspect.signature(self.metric.update).parameters else {}
        self._call(lambda: self.metric.update(labels, probabilities, **known))

    def state(self) -> dict[str, NDArray[Any]]:
        """The metric's state on the images so far."""
        return self._call(lambda: {name: np.asarray(array) for name, array in self.metric.state().items()})

    def result(self, states: Sequence[Mapping[str, NDArray[Any]]]) -> MetricResult:
        """The values of the summed states of all processes."""

        def compute() -> dict[str, float | None]:
            total = {name: np.sum([state[name] for state in states], axis=0) for name in states[0]}
            return {name: _number(value) for name, value in self.metric.value(total).items()}

        values = self._call(compute)
        if not values:
            raise RecipeError(
                f"{self.use.where()}: {self.use.use}: value() returned no numbers; return at least one, by name"
            )
        return MetricResult(values, self.metric.unit, self.metric.direction)

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a bug of ours is raised as it is
            raise refused_by(self.use, error) from None


def make_metrics(recipe: Recipe, num_classes: int) -> dict[str, Measure]:
    """Build the further metrics of a recipe for one evaluation, by their labels.

    Raises:
        RecipeError: a component cannot be built, or is not a metric.
    """
    return {use.label: _make_metric(recipe, use, num_classes) for use in recipe.evaluate.metrics}


def _make_metric(recipe: Recipe, use: Use, num_classes: int) -> Measure:
    facts = {"num_classes": lambda: num_classes}
    metric = Maker(recipe).build(use, facts=facts)
    check_has(use, metric, ("unit", "direction", "update", "state", "value"), "docs/add-a-metric.md")
    if metric.direction not in ("higher", "lower"):
        raise RecipeError(f"{use.where()}: {use.use}: direction must be 'higher' or 'lower', got {metric.direction!r}")
    return Measure(use, metric)


def check_metrics(recipe: Recipe, labels: Integer[Tensor, "H W"], logits: Float[Tensor, "K h w"]) -> list[str]:
    """Build and call each further metric of a recipe once.

    Args:
        recipe: checked in shape and calls.
        labels: 0 … K-1 and IGNORE.
        logits: of K >= 2 classes.

    Returns:
        The mistakes in the metrics, one line each.
    """
    mistakes: list[str] = []
    for use in recipe.evaluate.metrics:
        try:
            measure = _make_metric(recipe, use, len(logits))
            measure.update(labels.long(), at_size(logits.detach().float(), labels.shape).softmax(0))
            measure.result([measure.state()])
        except RecipeError as error:
            mistakes += error.mistakes
    return mistakes


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


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def predict(
    network: nn.Module, images: UInt8[Tensor, "N C H W"], precision: Precision, how: EvaluateConfig = WHOLE
) -> Float[Tensor, "N K _ _"]:
    """Predict a batch of images, in float32.

    Returns:
        Logits (N, K >= 2, h, w) at the stride of the head. With a window, several scales or the mirror image: the
        logarithm of the mean probability of all passes, (N, K, H, W).
    """
    whole = precision.images(images)
    if (how.window, how.scales, how.flip) == (None, (1.0,), False):
        return _logits(network, whole, precision)
    size = size_of(whole)
    total = torch.zeros(())
    for scale in how.scales:
        scaled = resize(whole, (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)))
        for mirrored in (False, True) if how.flip else (False,):
            probabilities = _in_windows(network, scaled.flip(3) if mirrored else scaled, precision, how.window)
            total = total.to(probabilities) + resize(probabilities.flip(3) if mirrored else probabilities, size)
    return (total / total.sum(1, keepdim=True)).clamp_min(1e-12).log()


def predict_sample(
    network: nn.Module, recipe: Recipe, precision: Precision, sample: Sample
) -> UInt8[NDArray[Any], "H W"]:
    """The classes of one image at its own size, predicted as for the scores."""
    image = resize_image(sample.image, recipe.scored_size)
    with torch.no_grad():
        logits = predict(network, image[None], precision, recipe.evaluate)[0]
        return full_size(logits, tuple(sample.image.shape[1:])).to("cpu", torch.uint8).numpy()


def _in_windows(
    network: nn.Module, images: Float[Tensor, "N C H W"], precision: Precision, window: tuple[int, int] | None
) -> Float[Tensor, "N K _ _"]:
    """Probabilities of the whole image, or their mean over windows that overlap by at least a third."""
    if window is None:
        return _logits(network, images, precision).softmax(1)
    size = size_of(images)
    height, width = (min(side, length) for side, length in zip(window, size, strict=True))
    total, count = torch.zeros(()), torch.zeros(size, device=images.device)
    for top in _starts(size[0], height):
        for left in _starts(size[1], width):
            place = (..., slice(top, top + height), slice(left, left + width))
            part = images[place].contiguous(memory_format=precision.memory_format)
            probabilities = resize(_logits(network, part, precision), (height, width)).softmax(1)
            if total.ndim == 0:
                total = probabilities.new_zeros(*probabilities.shape[:2], *size)
            total[place] += probabilities
            count[place] += 1
    return total / count


def _starts(length: int, window: int) -> list[int]:
    """The first pixels of the windows on an axis, evenly spaced from edge to edge."""
    steps = -(-(length - window) // max(window * 2 // 3, 1))
    return [round(step * (length - window) / steps) for step in range(steps + 1)] if steps else [0]


def _logits(network: nn.Module, images: Float[Tensor, "N C H W"], precision: Precision) -> Float[Tensor, "N K h w"]:
    with torch.no_grad(), precision.autocast():
        logits: Tensor = network(images).logits
    return as_classes(logits).float()


def at_size(logits: Float[Tensor, "K h w"], size: tuple[int, ...]) -> Float[Tensor, "K H W"]:
    """Resize the logits of one image to `size`, (H, W)."""
    return resize(logits[None], (size[0], size[1]))[0]


def full_size(logits: Float[Tensor, "K h w"], size: tuple[int, ...]) -> Int64[Tensor, "H W"]:
    """The predicted classes of one image at `size`, (H, W); no map (K, H, W) is held."""
    bands = resize_bands(logits[None], (size[0], size[1]), BAND)
    return torch.cat([band[0].max(0).indices for band in bands])  # as `argmax`, which takes a CPU ten times as long


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for the block; each module's own mode is restored."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():  # not `train()`, which would reach a frozen part
            module.training = training


def reestimate_batchnorm(network: nn.Module, batches: Iterator[Tensor], precision: Precision) -> None:
    """Replace BatchNorm's running averages by the means over some batches.

    In a short training the running averages lag behind the weights: with torchvision's momentum of 0.01, a network that
    fits its training data may score near zero for this reason alone. Modules in evaluation mode (a frozen part) keep
    their statistics.

    Args:
        network: in training mode; changed in place.
        batches: images, uint8 (N, C, H, W).
        precision: where and how it runs.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    with torch.no_grad(), precision.autocast():
        for images in batches:
            network(precision.images(images))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
