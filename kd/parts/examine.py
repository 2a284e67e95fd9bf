"""Why a teacher scores badly: the form of its images, their size, or the order of its classes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.machine import Precision
from kd.metrics import scores
from kd.networks.layers import Normalize
from kd.parts.assemble import Parts
from kd.runs import read_run_recipe
from kd.scoring import score
from kd.types import Sample, SegmentationDataset, SegmentationOutput

IMAGES = 40  # of the validation split, spread evenly over it
GAIN = 0.05  # of mIoU: what is less is no reason for a bad score
EQUAL = 0.005  # of mIoU: of two explanations this close, the simpler one is said


class Form(NamedTuple):
    """The form in which a network's first layer gets an image, in the words of `preprocess`."""

    order: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def make(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), RGB in [0, 1], in this form."""
        images = images.flip(1) if self.order == "bgr" else images
        return (images * self.scale - _channels(self.mean, images)) / _channels(self.std, images)

    def undo(self, images: Tensor) -> Tensor:
        """What `make` turns into `images`."""
        images = (images * _channels(self.std, images) + _channels(self.mean, images)) / self.scale
        return images.flip(1) if self.order == "bgr" else images

    def __str__(self) -> str:
        mean, std = (f"[{', '.join(f'{one:.4g}' for one in values)}]" for values in (self.mean, self.std))
        return f"preprocess: {{order: {self.order}, scale: {self.scale:g}, mean: {mean}, std: {std}}}"


class Row(NamedTuple):
    """One explanation: what was tried, the mIoU (0 … 1) it gives, and what to write if it is right."""

    what: str
    miou: float
    fix: str


class Diagnosis(NamedTuple):
    """What was tried, "as stated" first and other orders of classes last, and one line of advice."""

    rows: list[Row]
    advice: str


class Recast(nn.Module):
    """A network that gets images in another form than the one it makes itself."""

    def __init__(self, network: nn.Module, own: Form, other: Form) -> None:
        super().__init__()
        self.network, self.own, self.other = network, own, other

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to what the network says of them in the other form."""
        output: SegmentationOutput = self.network(self.own.undo(self.other.make(images.float())))
        return output


def diagnose(parts: Parts) -> Diagnosis:
    """Look for the reason of a bad score of a recipe's teacher."""
    assert parts.teacher is not None
    recipe = parts.recipe
    sample = parts.val[0, 0].image
    size, why = (sample.shape[-2], sample.shape[-1]), "the images' own size"
    if parts.teacher_run is not None:
        size, why = (
            (recipe.teacher_recipe or read_run_recipe(parts.teacher_run, trust=recipe.trust)).data.size,
            "the training size",
        )
    return examine(
        parts.teacher.network,
        Spread(parts.val),
        size=recipe.data.size,
        training_size=size,
        why=why,
        precision=parts.precision,
        batch_size=recipe.train.batch_size,
    )


def examine(
    network: nn.Module,
    dataset: SegmentationDataset,
    *,
    size: tuple[int, int],
    training_size: tuple[int, int],
    why: str = "the training size",
    precision: Precision,
    batch_size: int = 8,
) -> Diagnosis:
    """Score a network with its images in every usual form, at another size, and with its classes in other orders.

    Args:
        network: keeps the `Network` contract.
        dataset: labelled images.
        size: (H, W) in pixels of the images as the recipe gives them.
        training_size: the size that the network may have been trained at.
        why: what that size is, in words.
        precision: where and how it runs.
        batch_size: images at once.
    """

    def confusion(network: nn.Module, size: tuple[int, int]) -> Tensor:
        found = score(network, dataset, size=size, precision=precision, batch_size=batch_size)
        return torch.tensor(found.confusion)

    names = dataset.class_names
    own, wrapped = stated(network)
    stated_row = Row("as stated", 0.0, "")
    tried = [(stated_row, confusion(network, size))]
    if own is not None:
        for what, form in usual_forms(len(own.mean)):
            if form != own:
                fix = str(form) if wrapped else f"it wants {form}; give its own code to teachers.Wrapped"
                tried.append((Row(what, 0.0, fix), confusion(Recast(network, own, form), size)))
    if training_size != size:
        what, fix = f"at {training_size[0]}×{training_size[1]}, {why}", f"data.size: {list(training_size)}"
        tried.append((Row(what, 0.0, fix), confusion(network, training_size)))
    rows = [row._replace(miou=scores(matrix).miou) for row, matrix in tried]
    for what, order in (("shifted by one", _shift), ("matched anew", _match)):
        reordered = [_reordered(row, matrix, what, order(matrix), names) for row, matrix in tried]
        rows.append(max(reordered, key=lambda row: row.miou))
    return Diagnosis(rows, _advice(rows))


def twice_chance(confusion: Tensor) -> float:
    """Twice the mIoU (0 … 1) of guessing every class equally often."""
    labelled = confusion.sum(1).double() / confusion.sum()
    guessed = 1 / len(labelled)
    return 2 * (labelled * guessed / (labelled + guessed - labelled * guessed)).mean().item()


def usual_forms(channels: int) -> Iterator[tuple[str, Form]]:
    """The forms in which networks are usually trained, with what a message calls them."""
    known = Normalize(channels)
    mean, std = (tuple(buffer.flatten().tolist()) for buffer in (known.mean, known.std))
    half, none, one = (0.5,) * channels, (0.0,) * channels, (1.0,) * channels
    for order in ("rgb", "bgr") if channels == 3 else ("rgb",):
        turn = -1 if order == "bgr" else 1  # means stand behind the order
        before = f"{order}, " if channels == 3 else ""
        yield f"{before}0-1, ImageNet's mean and std", Form(order, 1.0, mean[::turn], std[::turn])
        yield f"{before}0-1, mean and std 0.5", Form(order, 1.0, half, half)
        yield f"{before}0-1, plain", Form(order, 1.0, none, one)
        yield f"{before}0-255, plain", Form(order, 255.0, none, one)
    if channels == 3:
        yield "bgr, 0-255, mean only", Form("bgr", 255.0, (104.0, 117.0, 123.0), one)


def stated(network: nn.Module) -> tuple[Form | None, bool]:
    """The form that a network makes of its images; None if its members make several.

    Returns:
        The form, and whether the recipe says it (`preprocess` of `teachers.Wrapped`).
    """
    found = list(_stated(network))
    forms = {form for form, _ in found}
    if not found:
        channels = int(getattr(network, "in_channels", 3))
        return Form("rgb", 1.0, (0.0,) * channels, (1.0,) * channels), False
    return (found[0][0] if len(forms) == 1 else None), all(wrapped for _, wrapped in found)


def _stated(network: nn.Module) -> Iterator[tuple[Form, bool]]:
    own = getattr(network, "normalize", None)
    if isinstance(own, Normalize):
        mean, std = (tuple(buffer.flatten().tolist()) for buffer in (own.mean, own.std))
        order = "bgr" if getattr(network, "reverse", False) else "rgb"
        yield Form(order, float(getattr(network, "scale", 1.0)), mean, std), hasattr(network, "reverse")
        return
    for inner in network.children():
        yield from _stated(inner)


def _advice(rows: Sequence[Row]) -> str:
    first, best = rows[0], max(row.miou for row in rows)
    said = f"as stated {_percent(first.miou)}"
    if best - first.miou < GAIN:
        return f"{said} · nothing scores better: form, size and order of classes are right, or the weights are bad"
    kinds = [max(kind, key=lambda row: row.miou) for kind in (rows[:-2], rows[-2:-1], rows[-1:])]
    found = next(row for row in kinds if row.miou >= best - EQUAL)
    return f"{said} · {found.what} {_percent(found.miou)} → {found.fix}"


def _reordered(row: Row, confusion: Tensor, what: str, order: Sequence[int], names: Sequence[str]) -> Row:
    """A row with the channel `order[class]` for each class."""
    source = [names[list(order).index(channel)] for channel in range(len(names))]
    fix = f"teachers.ClassMapped around it, source: [{', '.join(source)}], target: [{', '.join(names)}]"
    return Row(
        f"{row.what}, classes {what}",
        scores(confusion[:, list(order)]).miou,
        f"{row.fix}; {fix}" if row.fix else fix,
    )


def _shift(confusion: Tensor) -> list[int]:
    """The channels moved by one, in the better direction."""
    channels = list(range(len(confusion)))
    return max((channels[1:] + channels[:1], channels[-1:] + channels[:-1]), key=lambda o: scores(confusion[:, o]).miou)


def _match(confusion: Tensor) -> list[int]:
    """The channel for each class that makes the mIoU largest: a class's IoU depends on its own channel alone."""
    hits = confusion.double()
    union = hits.sum(1, keepdim=True) + hits.sum(0, keepdim=True) - hits
    return best_assignment((hits / union.clamp(min=1)).numpy())


def best_assignment(gain: NDArray[np.float64]) -> list[int]:
    """The column of each row, no column twice, that makes the sum of `gain` (K, K) largest.

    The Hungarian method with potentials, O(K³): rows are added one by one, each by a shortest augmenting path.
    """
    cost, count = gain.max() - gain, len(gain)
    rows, columns = np.zeros(count + 1), np.zeros(count + 1)  # potentials; index 0 is the row to be added
    owner, before = np.zeros(count + 1, dtype=int), np.zeros(count + 1, dtype=int)
    for row in range(1, count + 1):
        owner[0], column = row, 0
        least, used = np.full(count + 1, np.inf), np.zeros(count + 1, dtype=bool)
        while owner[column]:
            used[column] = True
            reduced = cost[owner[column] - 1] - rows[owner[column]] - columns[1:]
            better = np.append(False, ~used[1:] & (reduced < least[1:]))
            least[better], before[better] = reduced[better[1:]], column
            column = int(np.where(used, np.inf, least).argmin())
            step = least[column]
            rows[owner[used]] += step
            columns[used] -= step
            least[~used] -= step
        while column:  # turn the path round
            owner[column] = owner[before[column]]
            column = int(before[column])
    return [int(np.flatnonzero(owner[1:] == row)[0]) for row in range(1, count + 1)]


class Spread:
    """At most `IMAGES` images of a split, spread evenly over it."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset
        self.class_names, self.colors, self.in_channels = dataset.class_names, dataset.colors, dataset.in_channels
        count = min(len(dataset), IMAGES)
        self.indices = [number * len(dataset) // count for number in range(count)]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return self.dataset[self.indices[key[0]], key[1]]


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
