"""Several teachers as one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.networks.layers import upsample_to
from kd.networks.weights import load_into
from kd.types import SegmentationOutput, Tap, as_classes


class Ensemble(nn.Module):
    """The weighted mean of the members' probabilities, as logits.

        p = Σ_m w_m softmax(logits_m), renormalised;    logits = log p / T, minus their mean over the classes

    The members' logits are brought to the finest member's size first. Softmax of the result is p (tempered by T), so
    logits here are defined up to a constant per pixel and fixed by the mean 0: a loss that looks at them otherwise
    than through softmax compares that choice too. `shift_free` says so, and `kd check` refuses such a loss; a single
    class has no such choice. Module paths such as `members.0.backbone.layer4` are taps.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531 (the mean of an
    ensemble as teacher).

    Args:
        num_classes: K, of every member.
        in_channels: channels of an image, of every member.
        members: two or more networks.
        files: a weights file for each member, as `weights:` takes it; None for members that need none.
        weights: one number a member, or K numbers a member, >= 0; equal if left out.
        temperature: T > 0, no unit; above 1 flattens the mean.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, h, w) at the finest member's size; the members' own
    in `aux` as `member1`, `member2` …

    Raises:
        ValueError: fewer than two members, other classes or channels, weights or files that do not match them.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        members: Sequence[nn.Module],
        files: Sequence[str] | None = None,
        weights: Sequence[float] | Sequence[Sequence[float]] | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if len(members) < 2:
            raise ValueError(f"members: an ensemble needs two or more, got {len(members)}")
        for i, member in enumerate(members):
            given = (getattr(member, "num_classes", None), getattr(member, "in_channels", None))
            if given != (num_classes, in_channels):
                raise ValueError(
                    f"members.{i}: {type(member).__name__} has {given[0]} classes and {given[1]} channels, "
                    f"the ensemble {num_classes} and {in_channels}; give it the same"
                )
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature: {temperature} is not above 0 and finite; 1.0 leaves the mean as it is")
        if files is not None and len(files) != len(members):
            raise ValueError(f"files: {len(files)} for {len(members)} members; give one for each")
        self.num_classes, self.in_channels, self.temperature = num_classes, in_channels, temperature
        self.shift_free = num_classes > 1
        self.taps: dict[str, Tap] = {}
        self.members = nn.ModuleList(members)
        for member, file in zip(members, files or (), strict=bool(files)):
            load_into(member, file)
        self.register_buffer("weights", torch.tensor(_shares(weights, len(members), max(num_classes, 2))))
        self.finest = self._finest()

    weights: Tensor  # (M, 1 or K); more dimensions would not go to channels_last

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to the logits of the mean."""
        own = {f"member{i}": member(images).logits for i, member in enumerate(self.members, 1)}
        like = list(own.values())[self.finest]
        each = [upsample_to(as_classes(logits.float()), like).softmax(1) for logits in own.values()]
        mean = (torch.stack(each) * self.weights[:, None, :, None, None]).sum(0)  # (N, K, h, w)
        logs = (mean / mean.sum(1, keepdim=True)).clamp(min=torch.finfo(mean.dtype).tiny).log() / self.temperature
        logits = logs - logs.mean(1, keepdim=True)
        if self.num_classes == 1:
            logits = logits[:, 1:] - logits[:, :1]
        return SegmentationOutput(logits, {}, own)

    @torch.no_grad()
    def _finest(self) -> int:
        """The member with the largest logits. Found once: a comparison in `forward` would fix an export's sizes."""
        training = [member.training for member in self.members]
        images = torch.zeros(1, self.in_channels, 64, 64, device=self.weights.device)
        heights = [member.eval()(images).logits.shape[-2] for member in self.members]
        for member, mode in zip(self.members, training, strict=True):
            member.train(mode)
        return heights.index(max(heights))


def _shares(
    weights: Sequence[float] | Sequence[Sequence[float]] | None, members: int, classes: int
) -> list[list[float]]:
    """Weights as M rows of 1 or K numbers, each column's sum 1."""
    given: Sequence[Any] = [1.0] * members if weights is None else weights
    rows = [[float(one)] if isinstance(one, int | float) else [float(share) for share in one] for one in given]
    if len(rows) != members or {len(row) for row in rows} not in ({1}, {classes}):
        raise ValueError(f"weights: give one number, or {classes} (one a class), for each of the {members} members")
    sums = [sum(column) for column in zip(*rows, strict=True)]
    if not all(0 <= share < math.inf for row in rows for share in row) or min(sums) == 0:
        raise ValueError("weights: must be 0 or more and finite, and above 0 for one member at least")
    return [[share / total for share, total in zip(row, sums, strict=True)] for row in rows]
