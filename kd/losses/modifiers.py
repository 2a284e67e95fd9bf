"""Losses that restrict another distillation loss to some of the pixels."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from kd.losses._checks import check_at_least
from kd.losses._pixels import AnyMaps, Labels, at_least_float32, full_precision, near_boundary, pair, valid_pixels
from kd.types import IGNORE


class Masked(nn.Module):
    """Masked distillation: apply a loss to reliable pixels only and ignore the rest.

        labels_i ← 255 unless every condition that is set holds at pixel i; then the loss

    Source: our combination of the masks in the literature: the teacher's prediction, its entropy, boundaries, classes.

    `right` and `entropy` read the teacher's logits and therefore need a loss on logits. Without labels, the teacher's
    most probable classes replace them.

    Args:
        loss: a distillation loss that reads one tap.
        right: keep a pixel only if the teacher's most probable class is the label.
        entropy: keep a pixel only if the teacher's entropy is at most this share of log K, 0 … 1.
        near: keep a pixel only if the square of 2·near + 1 cells around it has at least two classes.
        away: keep a pixel only if the square of 2·away + 1 cells around it has one class.
        classes: keep only these labels.

    Returns (of forward):
        The value of `loss`; 0 if no pixel is kept.

    Raises:
        ValueError: no condition is set, or one is out of range; `loss` compares features and a condition reads logits;
            the maps are features and there are no labels.
    """

    compares = "either"

    def __init__(
        self,
        loss: Callable[..., Tensor],
        *,
        right: bool = False,
        entropy: float | None = None,
        near: int | None = None,
        away: int | None = None,
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.compares = getattr(loss, "compares", "either")
        if not right and entropy is None and near is None and away is None and classes is None:
            raise ValueError("Masked: no condition is set; give right, entropy, near, away or classes")
        if entropy is not None and not 0 <= entropy <= 1:
            raise ValueError(f"entropy is {entropy}; it is a share of log K, so it must be in [0, 1]")
        check_at_least(1, near=near, away=away)
        if self.compares == "features" and (right or entropy is not None):
            raise ValueError(
                f"Masked: {type(loss).__name__} compares features, but right and entropy read the teacher's logits; "
                "use near, away or classes"
            )
        self.loss = loss
        self.right = right
        self.entropy = entropy
        self.near = near
        self.away = away
        self.classes = None if classes is None else tuple(classes)

    def forward(self, student: Float[Tensor, "N C h w"], teacher: AnyMaps, labels: Labels = None) -> Float[Tensor, ""]:
        """The loss over the kept pixels."""
        with full_precision(student):
            if labels is None and self.compares == "features":
                raise ValueError("Masked: features have no classes to mask by; give labels")
            valid_pixels(labels, teacher)
            logits = None if self.compares == "features" else at_least_float32(teacher.detach())
            labels = logits.max(1).indices if labels is None and logits is not None else labels
            assert labels is not None
            return self.loss(student, teacher, labels.masked_fill(~self._kept(logits, labels), IGNORE))

    def _kept(self, logits: Float[Tensor, "N K h w"] | None, labels: Integer[Tensor, "N h w"]) -> Bool[Tensor, "N h w"]:
        kept = torch.ones_like(labels, dtype=torch.bool)
        if logits is not None and self.right:
            kept = kept & (logits.max(1).indices == labels)
        if logits is not None and self.entropy is not None:
            log_p = F.log_softmax(logits, 1)
            limit = log_p.new_full((), logits.shape[1]).log()  # not `new_tensor`, which copies from the processor
            kept = kept & (-(log_p.exp() * log_p).sum(1) <= self.entropy * limit)
        if self.near is not None:
            kept = kept & near_boundary(labels, self.near)
        if self.away is not None:
            kept = kept & ~near_boundary(labels, self.away)
        if self.classes is not None:
            wanted = torch.zeros_like(kept)
            for label in self.classes:  # a list of them would have to be copied to the device
                wanted = wanted | (labels == label)
            kept = kept & wanted
        return kept


class Sampled(nn.Module):
    """Sampled distillation: apply a loss to a random subset of the pixels, the same in both maps.

        maps (N, C, h, w) → (N, C, 1, n): n pixels of each image, drawn anew in every call, valid ones first

    It makes losses affordable whose cost is quadratic in the pixels. The sample has no neighbourhoods: do not use it
    with a loss that pools, looks for boundaries or compares images position by position (SP).

    Source: our own; the expected value of a per-pixel mean over the sample is the mean over all pixels if all images
        have equally many valid ones. Each image gives n pixels: one with few valid pixels weighs more than in the mean.

    Args:
        loss: a distillation loss that reads one tap.
        pixels: n >= 1 per image; a map with fewer pixels gives all of them.

    Returns (of forward):
        The value of `loss` on the sample.

    Raises:
        ValueError: `pixels` is below 1; the sizes differ.
    """

    compares = "either"

    def __init__(self, loss: Callable[..., Tensor], pixels: int = 1024) -> None:
        super().__init__()
        check_at_least(1, pixels=pixels)
        self.compares = getattr(loss, "compares", "either")
        self.loss = loss
        self.pixels = pixels

    def forward(self, student: Float[Tensor, "N C h w"], teacher: AnyMaps, labels: Labels = None) -> Float[Tensor, ""]:
        """The loss of the sample."""
        with full_precision(student):
            student, teacher, valid = pair(student, teacher, labels, channels=False)
            lots = (torch.rand(valid.shape, device=student.device) + valid).flatten(1)  # (N, h·w)
            chosen = lots.topk(min(self.pixels, lots.shape[1]), dim=1).indices  # (N, n)
            student, teacher = (
                maps.flatten(2).gather(2, chosen[:, None].expand(-1, maps.shape[1], -1))[:, :, None]
                for maps in (student, teacher)
            )  # (N, C, 1, n)
            labels = None if labels is None else labels.flatten(1).gather(1, chosen)[:, None]  # (N, 1, n)
            return self.loss(student, teacher, labels)
