"""Several teachers as one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.networks.class_names import channels_of
from kd.networks.layers import upsample_to
from kd.networks.weights import load_into
from kd.types import Network, NetworkTraits, SegmentationOutput, Tap, as_classes, traits


class Ensemble(nn.Module):
    """The weighted mean of the members' probabilities, as logits.

        p = Σ_m w_m softmax(logits_m), renormalised;    logits = log p / T, minus their mean over the classes

    The members' logits are resized to the finest member's first. Softmax of the result is p, tempered by T, which
    leaves a constant per pixel open in the logits; here their mean is 0. A loss that does not apply softmax would
    compare that arbitrary constant, so `kd check` refuses it (`kd.types.NetworkTraits.shift_free`); a single logit has
    no such constant. Members whose files name the same classes in other orders are brought into the first one's. Terms
    tap module paths such as `members.0.backbone.layer4`.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, where the mean of an
    ensemble teaches.

    Args:
        num_classes: K, of every member.
        in_channels: channels of an image, of every member.
        members: two or more networks.
        files: a weights file per member, as `weights:` of a recipe takes it; None loads nothing.
        weights: one number per member, or K numbers per member (in the order of the first one's classes), >= 0; equal
            if left out.
        temperature: T > 0, no unit; above 1 flattens the mean.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, h, w) at the finest member's size; `aux` holds the
    members' logits as `member1`, `member2` …

    Raises:
        ValueError: there are fewer than two members, their classes or channels differ, in number or by name, or weights
            or files do not match them.
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
            if not isinstance(member, Network):
                raise ValueError(
                    f"members.{i}: {type(member).__name__} does not declare taps, num_classes and in_channels; "
                    "wrap it in teachers.Wrapped"
                )
            if (member.num_classes, member.in_channels) != (num_classes, in_channels):
                raise ValueError(
                    f"members.{i}: {type(member).__name__} has {member.num_classes} classes and {member.in_channels} "
                    f"channels, the ensemble has {num_classes} and {in_channels}; both must agree"
                )
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature: must be above 0 and finite, got {temperature}; 1.0 keeps the mean")
        if files is not None and len(files) != len(members):
            raise ValueError(f"files: {len(files)} for {len(members)} members; give one per member")
        self.num_classes, self.in_channels, self.temperature = num_classes, in_channels, temperature
        self.taps: dict[str, Tap] = {}
        self.members = nn.ModuleList(members)
        loaded = [load_into(member, file, role="teacher") for member, file in zip(members, files or (), strict=False)]
        lines = [f"members.{i}: {held.line}" for i, held in enumerate(loaded)]
        names = [traits(member).class_names for member in members]
        for i, held in enumerate(loaded):
            if names[i] is None and len(held.classes or ()) == max(num_classes, 2):
                names[i] = held.classes
        known = next(filter(None, names), None)
        lines += [
            f"members.{i}: the order of its classes is not recorded; taken to be {', '.join(known)}"
            for i, own in enumerate(names)
            if known and not own
        ]
        self.traits = NetworkTraits(shift_free=num_classes > 1, class_names=known, loaded=tuple(lines))
        self.register_buffer("orders", _orders(names, known))
        self.register_buffer("weights", torch.tensor(_shares(weights, len(members), max(num_classes, 2))))
        self.finest = self._finest()

    weights: Tensor  # (M, 1 or K); a 4-D buffer would be converted to channels_last
    orders: Tensor | None  # (M, K), each member's channel of each class; a buffer, so that a cache depends on it

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to the logits of the mean."""
        members = [self._ordered(i, member(images).logits) for i, member in enumerate(self.members)]
        finest = members[self.finest]
        shares = [upsample_to(as_classes(logits.float()), finest).softmax(1) for logits in members]
        mean = (torch.stack(shares) * self.weights[:, None, :, None, None]).sum(0)  # (N, K, h, w)
        logs = (mean / mean.sum(1, keepdim=True)).clamp(min=torch.finfo(mean.dtype).tiny).log() / self.temperature
        logits = logs - logs.mean(1, keepdim=True)
        if self.num_classes == 1:
            logits = logits[:, 1:] - logits[:, :1]
        return SegmentationOutput(logits, {}, {f"member{i}": member for i, member in enumerate(members, 1)})

    def _ordered(self, member: int, logits: Tensor) -> Tensor:
        """The logits of a member in the order of the first one's classes."""
        if self.orders is None:
            return logits
        order = self.orders[member]
        return logits[:, order] if logits.shape[1] > 1 else logits * (order[1] - order[0])  # 1, or -1 if turned round

    @torch.no_grad()
    def _finest(self) -> int:
        """The index of the member with the largest logits; comparing in `forward` would fix the sizes of an export."""
        training = [member.training for member in self.members]
        images = torch.zeros(1, self.in_channels, 64, 64, device=self.weights.device)
        heights = [member.eval()(images).logits.shape[-2] for member in self.members]
        for member, mode in zip(self.members, training, strict=True):
            member.train(mode)
        return heights.index(max(heights))


def _orders(names: Sequence[tuple[str, ...] | None], known: tuple[str, ...] | None) -> Tensor | None:
    """Each member's channel of each of the `known` classes, (M, K); None if the members agree.

    Raises:
        ValueError: a member has other classes.
    """
    orders = []
    for i, own in enumerate(names):
        order = channels_of(known, own) if known and own else tuple(range(len(known or ())))
        if order is None:
            raise ValueError(
                f"members.{i}: its classes are {', '.join(own or ())}, those before it "
                f"{', '.join(known or ())}; map them: put teachers.ClassMapped around the member"
            )
        orders.append(order)
    return torch.tensor(orders) if len(set(orders)) > 1 else None


def _shares(
    weights: Sequence[float] | Sequence[Sequence[float]] | None, members: int, classes: int
) -> list[list[float]]:
    """Weights as M rows of 1 or K numbers; each column sums to 1."""
    given: Sequence[Any] = [1.0] * members if weights is None else weights
    rows = [[float(row)] if isinstance(row, int | float) else [float(share) for share in row] for row in given]
    if len(rows) != members or {len(row) for row in rows} not in ({1}, {classes}):
        raise ValueError(f"weights: give each of the {members} members one number, or {classes} (one per class)")
    sums = [sum(column) for column in zip(*rows, strict=True)]
    if not all(0 <= share < math.inf for row in rows for share in row) or min(sums) == 0:
        raise ValueError("weights: must be finite and at least 0, and above 0 for at least one member")
    return [[share / total for share, total in zip(row, sums, strict=True)] for row in rows]
