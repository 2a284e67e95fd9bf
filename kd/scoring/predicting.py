"""Predict images with a network: at once or in windows, at several scales, mirrored."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.data.dataset import resize_image
from kd.machine import Precision
from kd.recipe import EvaluateConfig, Recipe
from kd.types import Sample, as_classes, resize, resize_bands, size_of

BAND = 64  # rows of full-size logits that are held at once
WHOLE = EvaluateConfig()  # the whole image at once, at its own scale


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
    if window is None:  # of a copy, here and below: a network may normalise in place what later passes read
        return _logits(network, images.clone(), precision).softmax(1)
    size = size_of(images)
    height, width = (min(side, length) for side, length in zip(window, size, strict=True))
    total, count = torch.zeros(()), torch.zeros(size, device=images.device)
    for top in _starts(size[0], height):
        for left in _starts(size[1], width):
            place = (..., slice(top, top + height), slice(left, left + width))
            part = images[place].clone(memory_format=precision.memory_format)
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
