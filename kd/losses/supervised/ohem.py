"""Cross entropy on hard pixels only."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_classes
from kd.losses._pixels import clear_ignored, full_precision
from kd.losses.supervised.class_weights import as_factors


class OHEM(nn.Module):
    """Online hard example mining: cross entropy on the pixels whose label has a low probability.

        loss = mean of the k largest w(y_i) · -log p_i over the valid pixels i,
        k = max( pixels with p_i <= threshold,  keep · valid pixels )

    Source: Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining", CVPR 2016,
        arXiv:1604.03540; for pixels, with a threshold: Wu et al., "High-performance Semantic Segmentation Using Very
        Deep Fully Convolutional Networks", 2016, arXiv:1604.04339.
    Differs: the least number of pixels is a share, so that it means the same at every batch and image size (common code
        uses 100,000 pixels); if k is not an integer, the last pixel has the weight of the fraction.

    Args:
        threshold: in (0, 1]; a pixel whose label has at most this probability is hard. 1 keeps every pixel.
        keep: in (0, 1], the least share of the valid pixels that is used.
        weight: one factor per class, >= 0, not divided out; or "median_frequency", "inverse_log" or
            "effective_number", computed from `label_counts`. None is 1 for all.
        label_counts: pixels of each class in the training labels; the engine supplies it.

    Returns (of forward):
        Nats, >= 0; not below the cross entropy.

    Raises:
        ValueError: `threshold` or `keep` is outside (0, 1]; `weight` is out of range, not one per class, or a name
            without `label_counts`; the sizes differ.
    """

    weight: Tensor | None

    def __init__(
        self,
        threshold: float = 0.7,
        keep: float = 1 / 16,
        weight: Sequence[float] | str | None = None,
        label_counts: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("threshold", threshold), ("keep", keep)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} is {value}; it must be in (0, 1]")
        self.threshold = threshold
        self.keep = keep
        self.register_buffer("weight", as_factors(weight, label_counts), persistent=False)

    def forward(self, logits: Float[Tensor, "N K H W"], labels: Integer[Tensor, "_N _H _W"]) -> Float[Tensor, ""]:
        """Mean cross entropy of the hard pixels."""
        with full_precision(logits):
            logits, valid = clear_ignored(logits, labels)
            labels = labels.long().where(valid, 0)
            values = F.cross_entropy(logits, labels, reduction="none").where(valid, 0)  # (N, H, W)
            hard = ((values >= -math.log(self.threshold)) & valid).sum()
            if self.weight is not None:
                check_classes(logits, weight=self.weight)
                values = values * self.weight.to(logits.dtype)[labels]
            k = torch.maximum(hard.to(logits.dtype), self.keep * valid.sum())
            with torch.no_grad():
                order = values.masked_fill(~valid, -1).flatten().argsort(descending=True, stable=True)
                shares = (k - torch.arange(len(order), device=k.device)).clamp(0, 1)  # of the pixel at each rank
                shares = torch.empty_like(shares).scatter(0, order, shares)
            return (values.flatten() * shares).sum() / k.where(k > 0, 1)
