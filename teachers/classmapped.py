"""A teacher trained on other classes than the student's."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kd.networks.class_names import displaced
from kd.types import SegmentationOutput, Tap, traits

UNKNOWN = 20.0  # nats below the least likely known class: never predicted, and finite


class ClassMapped(nn.Module):
    """A teacher of another label space, with its logits mapped to the student's classes.

        logit of a class = log Σ_j matrix[class, j] · exp(logit_j)

    so the probability of a merged class is the sum of its parts. A student's class to which no class of the teacher
    maps is unknown: its logit is 20 below the lowest known one, and a term on logits leaves out its channel and pixels
    (`kd.types.NetworkTraits.known_classes`). `taps` are the teacher's.

        use: teachers.ClassMapped
        args:
          network: {use: teachers.FCNResNet50, args: {num_classes: 21, aux: true}}
          source: [background, aeroplane, bicycle, …]     # the teacher's classes
          target: [sky, building, …, car, bicyclist]      # the student's; equal names match
          merge: {car: [car, bus]}                         # where names do not match

    Source: none, it adapts other networks.

    Args:
        num_classes: K, the student's.
        in_channels: channels of an image.
        network: the teacher, with the `num_classes` that `source` or `matrix` has.
        source: the teacher's classes, in the order of its channels; compared with the names in its weights.
        target: the student's classes, in the order of the labels; a run compares them with the data's names.
        merge: class of the student -> the teacher's classes that it covers; other classes match by equal names.
        matrix: instead of names, K rows with one number >= 0 per class of the teacher.

    Shape: images (N, in_channels, H, W) in [0, 1]; logits (N, K, h, w) at the teacher's size.

    Raises:
        ValueError: neither names nor a matrix are given, a name does not exist or occurs twice, the network has a class
            of `source` at another channel, the numbers of classes differ, or the two sides share no class.
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
        class_names, source_names, own = None, None, traits(network).class_names
        if matrix is None:
            if source is None or target is None:
                raise ValueError("give `source` and `target`, the names of both sides' classes, or `matrix`")
            matrix, class_names, source_names = _by_names(source, target, merge or {}), tuple(target), tuple(source)
            if own is not None and displaced(source, own):
                raise ValueError(
                    f"source: is {', '.join(source)}, but the network has its classes in the order {', '.join(own)}; "
                    f"set source: [{', '.join(own)}]"
                )
        if len(matrix) != num_classes or any(len(row) != network.num_classes for row in matrix):
            widths = sorted({len(row) for row in matrix})
            raise ValueError(
                f"{len(matrix)} × {', '.join(map(str, widths))} classes are given, but the data have {num_classes} and "
                f"the teacher has {network.num_classes}; name each class once, in the order of the channels"
            )
        if not all(0 <= share < math.inf for row in matrix for share in row):
            raise ValueError("matrix: a number is below 0 or not finite; give 0 where a class has no part")
        self.parts = [[(j, math.log(share)) for j, share in enumerate(row) if share > 0] for row in matrix]
        known = tuple(k for k, part in enumerate(self.parts) if part)
        if not known:
            raise ValueError("teacher and student have no class in common; map them with merge:")
        self.traits = traits(network)._replace(
            known_classes=known if len(known) < num_classes else (),
            class_names=class_names,
            source_names=source_names,
        )

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to logits over the student's classes."""
        output: SegmentationOutput = self.network(images)
        aux = {name: self._mapped(logits) for name, logits in output.aux.items()}
        return SegmentationOutput(self._mapped(output.logits), output.features, aux)

    def _mapped(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        known = {
            k: torch.stack([logits[:, j] + log for j, log in part], 1).logsumexp(1)
            for k, part in enumerate(self.parts)
            if part
        }
        unknown = torch.stack(list(known.values())).amin(0) - UNKNOWN
        return torch.stack([known.get(k, unknown) for k in range(self.num_classes)], 1)  # (N, K, h, w)


def _by_names(source: Sequence[str], target: Sequence[str], merge: Mapping[str, Sequence[str]]) -> list[list[float]]:
    """The matrix of 0 and 1 that states which of the teacher's classes each of the student's covers."""
    for side, names in (("source", source), ("target", target)):
        folded = [name.casefold() for name in names]
        if twice := [name for name, fold in zip(names, folded, strict=True) if folded.count(fold) > 1]:
            raise ValueError(f"{side}: {' and '.join(twice)} are the same name; name each class once")
    channel = {name.casefold(): j for j, name in enumerate(source)}
    if unknown := merge.keys() - set(target):
        raise ValueError(f"merge: the student has no class '{min(unknown)}'; it has {', '.join(target)}")
    rows = []
    for name in target:
        row = [0.0] * len(source)
        for covered in merge.get(name, [name] if name.casefold() in channel else []):
            if covered.casefold() not in channel:
                raise ValueError(f"merge: {name}: the teacher has no class '{covered}'; it has {', '.join(source)}")
            row[channel[covered.casefold()]] = 1.0
        rows.append(row)
    return rows
