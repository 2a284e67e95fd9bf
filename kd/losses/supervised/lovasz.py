"""Lovász-Softmax: the intersection over union, extended to probabilities."""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from kd.losses._pixels import clear_ignored, full_precision, mean_over, members


class Lovasz(nn.Module):
    """Lovász-Softmax: the convex extension of 1 - IoU, equal to it where all probabilities are 0 or 1.

        loss = Σ_i e_(i) · [ J(first i errors) - J(first i - 1 errors) ],   mean over the classes that the labels hold

    For a class, e is |[y = c] - p_c| of each valid pixel, e_(1) >= e_(2) >= …, and J(set) = 1 - IoU if exactly the
    pixels of the set are wrong.

    Source: Berman et al., "The Lovász-Softmax Loss", CVPR 2018, arXiv:1705.08790.
    Differs: nothing.

    Args:
        per_image: compute the loss of each image, then their mean; False treats the batch as one image.

    Returns (of forward):
        No unit, 0 … 1; 0 if every pixel has probability 1 for its label.

    Raises:
        ValueError: the sizes differ.
    """

    def __init__(self, per_image: bool = False) -> None:
        super().__init__()
        self.per_image = per_image

    def forward(self, logits: Float[Tensor, "N K H W"], labels: Integer[Tensor, "_N _H _W"]) -> Float[Tensor, ""]:
        """The Lovász extension of 1 - IoU, mean over the classes present."""
        with full_precision(logits):
            logits, valid = clear_ignored(logits, labels)
            probabilities, classes = logits.softmax(1), logits.shape[1]
            member = members(labels, classes)
            errors = torch.where(member, 1 - probabilities, probabilities).where(valid[:, None], 0)  # (N, K, H, W)
            with torch.no_grad():  # one class at a time: sorting all of them at once takes K times the memory
                slopes = torch.stack([self._slopes(errors[:, c], member[:, c], valid) for c in range(classes)], 1)
            loss, present = (errors * slopes).sum((2, 3)), member.any((2, 3))  # (N, K)
            if not self.per_image:
                return mean_over(loss.sum(0), present.any(0))
            per_image = torch.where(present, loss, 0).sum(1) / present.sum(1).clamp(min=1)
            return mean_over(per_image, present.any(1))

    def _slopes(
        self, errors: Float[Tensor, "N H W"], member: Bool[Tensor, "N H W"], valid: Bool[Tensor, "N H W"]
    ) -> Float[Tensor, "N H W"]:
        """The factor of each pixel's error for one class: the growth of J when the pixel joins the larger errors."""
        groups = len(errors) if self.per_image else 1
        # Ignored pixels come last, where J has reached 1 and grows no more.
        order = errors.masked_fill(~valid, -1).reshape(groups, -1).argsort(dim=1, descending=True, stable=True)
        inside = member.reshape(groups, -1).gather(1, order).to(errors.dtype)
        size = inside.sum(1, keepdim=True)
        missed = inside.cumsum(1)
        false = (1 - inside).cumsum(1)
        jaccard = 1 - (size - missed) / (size + false).clamp(min=1)
        steps = jaccard.diff(dim=1, prepend=torch.zeros_like(size))
        return torch.empty_like(steps).scatter(1, order, steps).view_as(errors)
