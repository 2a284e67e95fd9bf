"""A teacher that knows other classes than the student's."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kd.types import SegmentationOutput, Tap

UNKNOWN = 20.0  # nats below the least likely known class: never the answer, and finite


class ClassMapped(nn.Module):
    """A teacher of another label space, speaking of the student's classes as far as it knows them.

        logit of a class = log Σ_j matrix[class, j] · exp(logit_j)

    so the probability of merged classes is the sum of theirs. `known` lists the student's classes that the teacher can
    speak of: on `logits` a term compares those channels only, and pixels of other labels count as ignored. Channels
    of unknown classes are 20 below the least known one. `taps` are the teacher's own.

        use: teachers.ClassMapped
        args:
          network: {use: teachers.FCNResNet50, args: {num_classes: 21, aux: true}}
          source: [background, aeroplane, bicycle, …]     # the teacher's classes
          target: [sky, building, …, car, bicyclist]      # the student's; equal names meet
          merge: {car: [car, bus]}                         # what names alone do not say

    Source: none; a bridge.

    Args:
        num_classes: K, the student's.
        in_channels: channels of an image.
        network: the teacher; its own `num_classes` must be the number of its classes here.
        source: the teacher's classes, in the order of its channels.
        target: the student's classes, in the order of the labels: the data's names, which a run compares.
        merge: a class of the student -> the teacher's classes that it covers; the others meet by equal names.
        matrix: instead of names: K rows, one number >= 0 for each of the teacher's classes.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, h, w) as the teacher's.

    Raises:
        ValueError: neither names nor matrix, a name that does not exist, other numbers of classes, nothing in common.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        network: nn.Module,
        source: Sequence[str] | None = None,
        target: Sequence[str] | None = None,
        merge: Mapping[str, Sequence[str]] | None = None,
        matrix: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.network = network
        self.taps: dict[str, Tap] = network.taps  # type: ignore[assignment]
        self.shift_free = bool(getattr(network, "shift_free", False))  # an ensemble's logits, and so these
        self.target = None if matrix is not None or target is None else tuple(target)
        if matrix is None:
            if source is None or target is None:
                raise ValueError("give `source` and `target`, the names of both sides' classes, or `matrix`")
            matrix = _by_names(source, target, merge or {})
        theirs = network.num_classes
        if len(matrix) != num_classes or any(len(row) != theirs for row in matrix):
            widths = sorted({len(row) for row in matrix})
            raise ValueError(
                f"the classes given are {len(matrix)} × {', '.join(map(str, widths))}, the data have {num_classes} and "
                f"the teacher {theirs}; name each once, in the order of the channels"
            )
        if not all(0 <= share < math.inf for row in matrix for share in row):
            raise ValueError("matrix: a number is below 0 or not finite; give 0 where a class has no part")
        self.parts = [[(j, math.log(share)) for j, share in enumerate(row) if share > 0] for row in matrix]
        self.known = tuple(k for k, part in enumerate(self.parts) if part)
        if not self.known:
            raise ValueError("teacher and student have no class in common; say with merge: which belong together")

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits over the student's classes."""
        output: SegmentationOutput = self.network(images)
        aux = {name: self._mapped(logits) for name, logits in output.aux.items()}
        return SegmentationOutput(self._mapped(output.logits), output.features, aux)

    def _mapped(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        spoken = {k: torch.stack([logits[:, j] + log for j, log in self.parts[k]], 1).logsumexp(1) for k in self.known}
        never = torch.stack(list(spoken.values())).amin(0) - UNKNOWN
        return torch.stack([spoken.get(k, never) for k in range(self.num_classes)], 1)  # (N, K, h, w)


def _by_names(source: Sequence[str], target: Sequence[str], merge: Mapping[str, Sequence[str]]) -> list[list[float]]:
    """Which of the teacher's classes each of the student's covers."""
    for side, names in (("source", source), ("target", target)):
        folded = [name.casefold() for name in names]
        if twice := [name for name, fold in zip(names, folded, strict=True) if folded.count(fold) > 1]:
            raise ValueError(f"{side}: {' and '.join(twice)} are one name; name each class once")
    place = {name.casefold(): j for j, name in enumerate(source)}
    if unknown := merge.keys() - set(target):
        raise ValueError(f"merge: the student has no class '{min(unknown)}'; it has {', '.join(target)}")
    rows = []
    for name in target:
        row = [0.0] * len(source)
        for covered in merge.get(name, [name] if name.casefold() in place else []):
            if covered.casefold() not in place:
                raise ValueError(f"merge: {name}: the teacher has no class '{covered}'; it has {', '.join(source)}")
            row[place[covered.casefold()]] = 1.0
        rows.append(row)
    return rows
