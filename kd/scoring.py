"""Score a network on a split: the one piece of code that training, comparison and export share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kd.data.loader import evaluation_batches
from kd.machine import Precision
from kd.metrics import confusion_matrix
from kd.recipe import EvaluateConfig
from kd.runs import SplitResult
from kd.types import IGNORE, SegmentationDataset, as_classes, resize

WHOLE = EvaluateConfig()  # the image at once, as it is


def score(
    network: nn.Module,
    dataset: SegmentationDataset,
    *,
    size: tuple[int, int],
    precision: Precision,
    how: EvaluateConfig = WHOLE,
    batch_size: int = 8,
) -> SplitResult:
    """The confusion matrix of a network on every labelled image of a split, in this process: see `score_beside`."""
    return score_beside(network, None, dataset, size=size, precision=precision, how=how, batch_size=batch_size)[0]


@torch.no_grad()
def score_beside(
    network: nn.Module,
    teacher: nn.Module | None,
    dataset: SegmentationDataset,
    *,
    size: tuple[int, int],
    precision: Precision,
    how: EvaluateConfig = WHOLE,
    batch_size: int = 8,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    interrupt: Callable[[], None] = lambda: None,
    waiting: Callable[[], None] = lambda: None,
) -> tuple[SplitResult, SplitResult | None]:
    """A network's score, and its score with the teacher's classes in place of the labels: how far they agree.

    Both are confusion matrices and count the labelled pixels alone. Images are resized to `size`; logits are resized
    (bilinear, half-pixel centres) to each label map's own size before the argmax, so the score does not depend on the
    size the network ran at being the labels' own.

    Args:
        network: keeps the `Network` contract; its training mode is restored afterwards.
        teacher: likewise; without one the second score is None.
        dataset: one split.
        size: (H, W) of the images given to the networks.
        precision: where and how they run.
        how: window, scales and flip.
        batch_size: images at once.
        workers: processes that read images.
        rank: of this process, 0 … world-1, which scores every `world`-th image; the confusion matrices then add up.
        world: processes.
        interrupt: called after each batch, equally often on every rank; may raise to stop.
        waiting: called once a second while images are waited for; may raise to stop.
    """
    classes = dataset.class_names
    right, alike = torch.zeros(2, len(classes), len(classes), dtype=torch.int64)
    images = 0
    networks = [network] if teacher is None else [network, teacher]
    with ExitStack() as modes:
        for one in networks:
            modes.enter_context(_evaluating(one))
        batches = evaluation_batches(
            dataset, size, batch_size=batch_size, rank=rank, world=world, workers=workers, waiting=waiting
        )
        for batch in batches:
            logits = [predict(one, batch.images, precision, how) for one in networks]
            for number, labels in enumerate(batch.labels):
                ours, *theirs = (full_size(each[number], labels.shape) for each in logits)
                labels = labels.to(ours.device)
                right += confusion_matrix(labels, ours, len(classes)).cpu()
                for classes_of_teacher in theirs:
                    said = classes_of_teacher.masked_fill(labels == IGNORE, IGNORE)
                    alike += confusion_matrix(said, ours, len(classes)).cpu()
            images += len(batch.images)
            interrupt()
        if -(-images // batch_size) < -(-len(range(0, len(dataset), world)) // batch_size):
            interrupt()  # rank 0 has one batch more
    found = [SplitResult(counts.numpy(), list(classes), images) for counts in (right, alike)]
    return found[0], found[1] if teacher is not None else None


def predict(network: nn.Module, images: Tensor, precision: Precision, how: EvaluateConfig = WHOLE) -> Tensor:
    """What a network says of uint8 images (N, C, H, W), float32.

    Returns:
        Logits (N, K >= 2, h, w) at the head's own stride. With a window, several scales or the mirror image: the
        logarithm of the mean probability of all passes, (N, K, H, W).
    """
    whole = precision.images(images)
    if (how.window, how.scales, how.flip) == (None, (1.0,), False):
        return _logits(network, whole, precision)
    size = (whole.shape[-2], whole.shape[-1])
    total = torch.zeros(())
    for scale in how.scales:
        scaled = resize(whole, (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)))
        for mirrored in (False, True) if how.flip else (False,):
            seen = _slid(network, scaled.flip(3) if mirrored else scaled, precision, how.window)
            total = total.to(seen) + resize(seen.flip(3) if mirrored else seen, size)
    return (total / total.sum(1, keepdim=True)).clamp_min(1e-12).log()


def _slid(network: nn.Module, images: Tensor, precision: Precision, window: tuple[int, int] | None) -> Tensor:
    """Probabilities (N, K, h, w): of the image at once, or the mean of windows that overlap by a third at least."""
    if window is None:
        return _logits(network, images, precision).softmax(1)
    height, width = (min(side, length) for side, length in zip(window, images.shape[-2:], strict=True))
    total, count = torch.zeros(()), torch.zeros(images.shape[-2:], device=images.device)
    for top in _starts(images.shape[-2], height):
        for left in _starts(images.shape[-1], width):
            place = (..., slice(top, top + height), slice(left, left + width))
            part = images[place].contiguous(memory_format=precision.memory_format)
            seen = resize(_logits(network, part, precision), (height, width)).softmax(1)
            if total.ndim == 0:
                total = seen.new_zeros(*seen.shape[:2], *images.shape[-2:])
            total[place] += seen
            count[place] += 1
    return total / count


def _starts(length: int, window: int) -> list[int]:
    """Where windows begin on an axis: evenly, from the first cell to the last."""
    steps = -(-(length - window) // max(window * 2 // 3, 1))
    return [round(step * (length - window) / steps) for step in range(steps + 1)] if steps else [0]


def _logits(network: nn.Module, images: Tensor, precision: Precision) -> Tensor:
    with torch.no_grad(), precision.autocast():
        logits: Tensor = network(images).logits
    return as_classes(logits).float()


def full_size(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Class indices (H, W) at `size` from one image's logits (K, h, w)."""
    return resize(logits[None], (size[0], size[1]))[0].argmax(0)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():  # one by one: a frozen part stays in evaluation mode
            module.training = training


def reestimate_batchnorm(network: nn.Module, batches: Iterator[Tensor], precision: Precision) -> None:
    """Replace BatchNorm's running averages by the plain means over some batches.

    Running averages lag behind the weights in a short training; with torchvision's momentum of 0.01 they can be so
    wrong that a network that fits its training data scores near zero. Modules in evaluation mode (a frozen part) keep
    what they have.

    Args:
        network: in training mode; changed in place.
        batches: uint8 images (N, C, H, W).
        precision: where and how it runs.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    with torch.no_grad(), precision.autocast():
        for images in batches:
            network(precision.images(images))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
