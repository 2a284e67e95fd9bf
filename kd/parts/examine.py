"""Why a teacher scores badly: the form of its images, their size, or the order of its classes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.machine import Precision
from kd.metrics import scores
from kd.networks.normalize import Normalize, Preprocess
from kd.parts.assemble import Parts
from kd.runs import read_run_recipe
from kd.scoring import score
from kd.types import Sample, SegmentationDataset, SegmentationOutput, size_of

IMAGES = 40  # of the validation split, evenly spread
GAIN = 0.05  # of mIoU: a smaller gain does not explain a bad score
EQUAL = 0.005  # of mIoU: of two explanations this close, the simpler one is reported


class Row(NamedTuple):
    """One explanation: what was tried, the resulting mIoU (0 … 1), and what to write if it is right."""

    what: str
    miou: float
    fix: str


class Diagnosis(NamedTuple):
    """All explanations, "as stated" first and other orders of classes last, and one line of advice."""

    rows: list[Row]
    advice: str


class Trial(NamedTuple):
    """What was tried, what to write if it is right, and the resulting confusion matrix (K, K)."""

    what: str
    fix: str
    confusion: NDArray[np.int64]


class Recast(nn.Module):
    """A network that receives its images in another form.

    Args:
        network: takes images in [0, 1].
        stated: the form that the network brings images into.
        other: the form that its first layer receives instead.
    """

    def __init__(self, network: nn.Module, stated: Preprocess, other: Preprocess) -> None:
        super().__init__()
        self.network, self.stated, self.other = network, stated, other

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images in [0, 1] to the network's output for the other form."""
        output: SegmentationOutput = self.network(self.stated.undo(self.other.apply(images.float())))
        return output


def diagnose(parts: Parts) -> Diagnosis:
    """Look for the cause of a bad score of a recipe's teacher."""
    assert parts.teacher is not None
    recipe = parts.recipe
    size, why = size_of(parts.val[0, 0].image), "the images' own size"
    if parts.teacher_run is not None:
        teacher_recipe = recipe.teacher_recipe or read_run_recipe(parts.teacher_run, trust=recipe.trust)
        size, why = teacher_recipe.data.size, "the training size"
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
    """Score a network with its images in all usual forms, at another size, and with its classes in other orders.

    Args:
        network: the network, which takes images in [0, 1].
        dataset: labelled images.
        size: (H, W) in pixels of the images as the recipe states it.
        training_size: the size at which the network may have been trained.
        why: why that size is tried, in words.
        precision: where and how the network runs.
        batch_size: images at once.
    """

    def confusion(network: nn.Module, size: tuple[int, int]) -> NDArray[np.int64]:
        return score(network, dataset, size=size, precision=precision, batch_size=batch_size).confusion

    trials = [Trial("as stated", "", confusion(network, size))]
    stated, from_recipe = declared_form(network, dataset.in_channels)
    if stated is not None:
        for what, form in usual_forms(dataset.in_channels):
            if form != stated:
                fix = str(form) if from_recipe else f"the network takes {form}; wrap its own code in teachers.Wrapped"
                trials.append(Trial(what, fix, confusion(Recast(network, stated, form), size)))
    if training_size != size:
        what, fix = f"at {training_size[0]}×{training_size[1]}, {why}", f"data.size: {list(training_size)}"
        trials.append(Trial(what, fix, confusion(network, training_size)))
    rows = [Row(trial.what, scores(trial.confusion).miou, trial.fix) for trial in trials]
    for what, order in (("shifted by one", _shift), ("reassigned", _match)):
        reordered = [_reordered(trial, what, order(trial.confusion), dataset.class_names) for trial in trials]
        rows.append(max(reordered, key=lambda row: row.miou))
    return Diagnosis(rows, _advice(rows))


def twice_chance(confusion: NDArray[np.int64]) -> float:
    """Twice the mIoU (0 … 1) of guessing all classes equally often."""
    labelled = confusion.sum(1) / confusion.sum()
    guessed = 1 / len(labelled)
    return float(2 * (labelled * guessed / (labelled + guessed - labelled * guessed)).mean())


def usual_forms(channels: int) -> Iterator[tuple[str, Preprocess]]:
    """The forms in which networks are usually trained, each with its name in a message."""
    usual = Normalize(channels).preprocess
    half, zeros, ones = (0.5,) * channels, (0.0,) * channels, (1.0,) * channels
    for order in ("rgb", "bgr") if channels == 3 else ("rgb",):
        turn = -1 if order == "bgr" else 1  # mean and std follow the order
        prefix = f"{order}, " if channels == 3 else ""
        yield f"{prefix}0-1, ImageNet's mean and std", Preprocess(order, 1.0, usual.mean[::turn], usual.std[::turn])
        yield f"{prefix}0-1, mean and std 0.5", Preprocess(order, 1.0, half, half)
        yield f"{prefix}0-1, plain", Preprocess(order, 1.0, zeros, ones)
        yield f"{prefix}0-255, plain", Preprocess(order, 255.0, zeros, ones)
    if channels == 3:
        yield "bgr, 0-255, mean only", Preprocess("bgr", 255.0, (104.0, 117.0, 123.0), ones)


def declared_form(network: nn.Module, channels: int) -> tuple[Preprocess | None, bool]:
    """The form in which a network takes images of so many channels; None if its members take several.

    Returns:
        The form, and whether a recipe can state it (`preprocess` of `teachers.Wrapped`).
    """
    layers = list(_outermost(network))
    forms = {layer.preprocess for layer in layers}
    if not forms:
        return Preprocess("rgb", 1.0, (0.0,) * channels, (1.0,) * channels), False
    return (forms.pop() if len(forms) == 1 else None), all(layer.from_recipe for layer in layers)


def _outermost(network: nn.Module) -> Iterator[Normalize]:
    """The layers that see the images themselves: a `Normalize` below the level of another sees its result."""
    layers = [child for child in network.children() if isinstance(child, Normalize)]
    yield from layers or (layer for child in network.children() for layer in _outermost(child))


def _advice(rows: Sequence[Row]) -> str:
    first, best = rows[0], max(row.miou for row in rows)
    stated = f"as stated {_percent(first.miou)}"
    if best - first.miou < GAIN:
        return f"{stated} · nothing scores better: form, size and order of classes are right, or the weights are bad"
    kinds = [max(kind, key=lambda row: row.miou) for kind in (rows[:-2], rows[-2:-1], rows[-1:])]  # the simplest first
    cause = next(row for row in kinds if row.miou >= best - EQUAL)
    return f"{stated} · {cause.what} {_percent(cause.miou)} → {cause.fix}"


def _reordered(trial: Trial, what: str, order: Sequence[int], names: Sequence[str]) -> Row:
    """A trial's row if channel `order[class]` is the channel of each class."""
    source = [names[list(order).index(channel)] for channel in range(len(names))]
    fix = f"wrap it in teachers.ClassMapped, source: [{', '.join(source)}], target: [{', '.join(names)}]"
    return Row(
        f"{trial.what}, classes {what}",
        scores(trial.confusion[:, list(order)]).miou,
        f"{trial.fix}; {fix}" if trial.fix else fix,
    )


def _shift(confusion: NDArray[np.int64]) -> list[int]:
    """All channels moved by one, in the direction that scores better."""
    channels = list(range(len(confusion)))
    return max((channels[1:] + channels[:1], channels[-1:] + channels[:-1]), key=lambda o: scores(confusion[:, o]).miou)


def _match(confusion: NDArray[np.int64]) -> list[int]:
    """The channel of each class that maximises the mIoU: the IoU of a class depends on its own channel only."""
    union = confusion.sum(1, keepdims=True) + confusion.sum(0, keepdims=True) - confusion
    return best_assignment(confusion / np.maximum(union, 1))


def best_assignment(gain: NDArray[np.float64]) -> list[int]:
    """The column of each row, no column twice, that maximises the sum of `gain` (K, K).

    The Hungarian method with potentials, O(K³): it adds one row at a time, along a shortest augmenting path.
    """
    cost, count = gain.max() - gain, len(gain)
    rows, columns = np.zeros(count + 1), np.zeros(count + 1)  # potentials; index 0 is the row being added
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
        while column:  # augment along the path
            owner[column] = owner[before[column]]
            column = int(before[column])
    return [int(np.flatnonzero(owner[1:] == row)[0]) for row in range(1, count + 1)]


class Spread:
    """At most `IMAGES` images of a split, evenly spread."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset
        self.class_names, self.colors, self.in_channels = dataset.class_names, dataset.colors, dataset.in_channels
        count = min(len(dataset), IMAGES)
        self.indices = [number * len(dataset) // count for number in range(count)]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return self.dataset[self.indices[key[0]], key[1]]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
