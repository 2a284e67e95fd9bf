"""How far the predicted region of each class covers the labelled one: what Dice, Jaccard and Tversky share."""

from typing import NamedTuple

import torch
from torch import Tensor

from kd.losses._pixels import counted, full_precision, mean_over, members

CONVENTIONS = ("house", "smp", "monai")
LEAST = 1e-7  # below this a score is 0 and its logarithm constant, as in SMP


class Overlap(NamedTuple):
    """Sizes of regions in pixels, (G, K): of each class in the batch (G = 1) or in each image (G = N)."""

    shared: Tensor  # Σ p over the pixels labelled with the class
    predicted: Tensor  # Σ p over the valid pixels
    labelled: Tensor  # pixels labelled with the class


def overlap(logits: Tensor, labels: Tensor, *, per_image: bool, background: bool) -> Overlap:
    """Measure each class's regions over the valid pixels.

    Args:
        logits: (N, K, H, W).
        labels: (N, H, W).
        per_image: measure each image by itself.
        background: False leaves class 0 out.
    """
    with full_precision(logits):
        logits, valid = counted(logits, labels)
        probabilities = logits.softmax(1).where(valid[:, None], 0)
        member = members(labels, logits.shape[1])
        sizes = (probabilities.where(member, 0), probabilities, member.to(logits.dtype))
        over = (2, 3) if per_image else (0, 2, 3)
        first = 0 if background else 1
        return Overlap(*(size.sum(over).view(-1, logits.shape[1])[:, first:] for size in sizes))


def mean_loss(numerator: Tensor, denominator: Tensor, labelled: Tensor, *, log: bool, convention: str) -> Tensor:
    """1 - numerator / denominator, or minus its logarithm, mean over classes (and images); all of them (G, K)."""
    score = numerator / denominator.clamp(min=LEAST)
    loss = -score.clamp(min=LEAST).log() if log else 1 - score
    return over_classes(loss, labelled, convention)


def over_classes(loss: Tensor, labelled: Tensor, convention: str) -> Tensor:
    """The mean over classes; what counts for a class without a labelled pixel is a matter of convention."""
    present = labelled > 0
    if convention == "house":
        return mean_over(loss, present)
    if convention == "smp":
        return torch.where(present, loss, 0).mean()
    return torch.where(labelled.sum() > 0, loss, 0).mean()
