"""Score a network on a split: the one piece of code that training, comparison and export share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kd.data.loader import evaluation_batches
from kd.metrics import confusion_matrix
from kd.precision import Precision
from kd.runs import SplitResult
from kd.types import SegmentationDataset, as_classes, resize


@torch.no_grad()
def score(
    network: nn.Module,
    dataset: SegmentationDataset,
    *,
    size: tuple[int, int],
    precision: Precision,
    batch_size: int = 8,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    interrupt: Callable[[], None] = lambda: None,
    waiting: Callable[[], None] = lambda: None,
) -> SplitResult:
    """The confusion matrix of a network on every labelled image of a split.

    Images are resized to `size`; logits are resized (bilinear, half-pixel centres) to each label map's own size
    before the argmax, so the score does not depend on the size the network ran at being the labels' own.

    Args:
        network: keeps the `Network` contract; its training mode is restored afterwards.
        dataset: one split.
        size: (H, W) of the images given to the network.
        precision: where and how it runs.
        batch_size: images at once.
        workers: processes that read images.
        rank: of this process, 0 … world-1, which scores every `world`-th image; the confusion matrices then add up.
        world: processes.
        interrupt: called after each batch, equally often on every rank; may raise to stop.
        waiting: called once a second while images are waited for; may raise to stop.
    """
    classes = dataset.class_names
    total = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    images = 0
    with _evaluating(network):
        batches = evaluation_batches(
            dataset, size, batch_size=batch_size, rank=rank, world=world, workers=workers, waiting=waiting
        )
        for batch in batches:
            logits = predict(network, batch.images, precision)
            for one, labels in zip(logits, batch.labels, strict=True):
                predictions = full_size(one, labels.shape)
                total += confusion_matrix(labels.to(predictions.device), predictions, len(classes)).cpu()
            images += len(batch.images)
            interrupt()
        if -(-images // batch_size) < -(-len(range(0, len(dataset), world)) // batch_size):
            interrupt()  # rank 0 has one batch more
    return SplitResult(total.tolist(), list(classes), images)


def predict(network: nn.Module, images: Tensor, precision: Precision) -> Tensor:
    """Logits (N, K >= 2, h, w), float32, at the head's own stride, of uint8 images (N, C, H, W)."""
    with torch.no_grad(), precision.autocast():
        logits: Tensor = network(precision.images(images)).logits
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
