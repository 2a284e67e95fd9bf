"""Overlap of the predicted and the labelled region of each class, which Dice, Jaccard and Tversky share."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from kd.losses._pixels import clear_ignored, full_precision, mean_over, members

CONVENTIONS = ("default", "smp", "monai")
LEAST = 1e-7  # a lower score has a constant logarithm, as in SMP


class Overlap(NamedTuple):
    """Sizes of regions in pixels, for each class in the batch (G = 1) or in each image (G = N)."""

    shared: Float[Tensor, "G K"]  # Σ p over the pixels labelled with the class
    predicted: Float[Tensor, "G K"]  # Σ p over the valid pixels
    labelled: Float[Tensor, "G K"]  # pixels labelled with the class
    valid: Float[Tensor, "G 1"]  # valid pixels, whatever their class


def overlap(
    logits: Float[Tensor, "N K H W"], labels: Integer[Tensor, "_N _H _W"], *, per_image: bool, background: bool
) -> Overlap:
    """Measure each class's regions over the valid pixels.

    Args:
        logits: of the network.
        labels: of the same size.
        per_image: measure each image separately.
        background: False leaves class 0 out.
    """
    with full_precision(logits):
        logits, valid = clear_ignored(logits, labels)
        probabilities = logits.softmax(1).where(valid[:, None], 0)
        member = members(labels, logits.shape[1])
        sizes = (probabilities.where(member, 0), probabilities, member.to(logits.dtype))
        over = (2, 3) if per_image else (0, 2, 3)
        first = 0 if background else 1
        shared, predicted, labelled = (size.sum(over).view(-1, logits.shape[1])[:, first:] for size in sizes)
        pixels = valid.sum((1, 2) if per_image else (0, 1, 2)).view(-1, 1).to(logits.dtype)
        return Overlap(shared, predicted, labelled, pixels)


def mean_loss(
    numerator: Float[Tensor, "G K"],
    denominator: Float[Tensor, "G K"],
    sizes: Overlap,
    *,
    log: bool,
    convention: str,
) -> Float[Tensor, ""]:
    """1 - numerator / denominator, or minus the logarithm of the ratio; mean over classes (and images)."""
    score = numerator / denominator.clamp(min=LEAST)
    loss = -score.clamp(min=LEAST).log() if log else 1 - score
    return over_classes(loss, sizes, convention)


def over_classes(loss: Float[Tensor, "G K"], sizes: Overlap, convention: str) -> Float[Tensor, ""]:
    """Mean over classes; the convention decides what a class without a labelled pixel adds."""
    present = sizes.labelled > 0
    if convention == "default":
        return mean_over(loss, present)
    values = torch.where(present, loss, 0) if convention == "smp" else loss
    return mean_over(values, (sizes.valid > 0).expand_as(values))
