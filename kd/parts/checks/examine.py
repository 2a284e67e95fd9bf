"""Why a teacher scores badly: it was never trained, or the form or size of its images or the order of its classes."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import lgamma
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kd.errors import shell_word
from kd.machine import Precision
from kd.metrics import scores
from kd.networks.normalize import Normalize, Preprocess
from kd.parts.assemble import Parts
from kd.parts.checks.class_orders import matched, shifted
from kd.parts.checks.corrections import corrected
from kd.parts.checks.evidence import Evidence, evenness, is_beyond_chance
from kd.parts.teacher.untrained import sign_of_no_training
from kd.recipe import Use
from kd.runs import read_run_recipe
from kd.scoring import Measure, score
from kd.types import Sample, SegmentationDataset, SegmentationOutput, size_of

IMAGES = 40  # of the validation split, evenly spread
GAIN = 0.05  # of mIoU: a smaller gain does not explain a bad score
EVEN_ENOUGH = 0.9  # of the entropy of an even guess: what a network that was never trained gives
LEARNED = 0.5  # of mIoU: a network that scores so has learned something, whatever its weights look like
EQUAL = 0.005  # of mIoU: of two explanations this close, the simpler one is reported


class Row(NamedTuple):
    """One explanation: what was tried, the resulting mIoU (0 … 1), and what to write if it is right."""

    what: str
    miou: float
    fix: str
    holds: bool = True  # whether a network that knows nothing would not score so by chance


class Diagnosis(NamedTuple):
    """All explanations, "as stated" first and other orders of classes last, and one line of advice.

    A network that was never trained has the first row only.
    """

    rows: list[Row]
    advice: str


class Trial(NamedTuple):
    """What was tried, what to write if it is right, and the resulting counts."""

    what: str
    fix: str
    confusion: NDArray[np.int64]  # (K, K)
    evidence: dict[str, NDArray[Any]]  # the state of `kd.parts.checks.evidence.Evidence`


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
    recipe = parts.recipe
    assert parts.teacher is not None
    assert recipe.teacher is not None
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
        drawn=parts.notes.drawn,
        use=recipe.teacher.use,
        correct=partial(corrected, recipe.teacher, parts.teacher.network, parts.notes.recorded, parts.val.class_names),
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
    drawn: Sequence[str] = (),
    use: str | None = None,
    correct: Callable[[Sequence[int]], str],
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
        drawn: the weights that are known to have been drawn at random.
        use: the component that the recipe names as its teacher; None: a run.
        correct: what to write if channel `order[class]` is the channel of each class.
    """

    def trial(what: str, fix: str, network: nn.Module, size: tuple[int, int]) -> Trial:
        evidence = Evidence(len(dataset.class_names))
        measure = {"evidence": Measure(Use(use="kd.parts.checks.evidence.Evidence"), evidence)}
        result = score(network, dataset, size=size, precision=precision, metrics=measure, batch_size=batch_size)
        return Trial(what, fix, result.confusion, evidence.state())

    trials = [trial("as stated", "", network, size)]
    first, classes = Row("as stated", scores(trials[0].confusion).miou, ""), len(dataset.class_names)
    sign = f"{drawn[0]} was drawn at random" if drawn else sign_of_no_training(network, classes)
    if sign and first.miou < max(LEARNED, twice_chance(trials[0].confusion)):
        return Diagnosis([first], _never_trained(first.miou, sign, trials[0].confusion, use))
    if sign:
        return Diagnosis([first], f"as stated {_percent(first.miou)} · {sign}, so a better score would be chance")
    stated, from_recipe = declared_form(network, dataset.in_channels)
    if stated is not None:
        for what, form in usual_forms(dataset.in_channels):
            if form != stated:
                fix = f"the network takes {form}; wrap its own code in teachers.Wrapped"
                if from_recipe:
                    fix = _override(form) if use == "teachers.Wrapped" else str(form)
                trials.append(trial(what, fix, Recast(network, stated, form), size))
    if training_size != size:
        what, fix = f"at {training_size[0]}×{training_size[1]}, {why}", f"data.size: {list(training_size)}"
        trials.append(trial(what, fix, network, training_size))
    forms, itself = math.log(len(trials)), range(classes)
    rows = [first]
    rows += [Row(t.what, scores(t.confusion).miou, t.fix, _holds(t, itself, forms)) for t in trials[1:]]
    for what, order_of, orders in (
        ("shifted by one", shifted, math.log(2)),
        ("reassigned", matched, lgamma(classes + 1)),
    ):
        reordered = []
        for tried in trials:
            order = order_of(tried.confusion)
            fix = "; ".join(filter(None, (tried.fix, correct(order))))
            miou, holds = scores(tried.confusion[:, list(order)]).miou, _holds(tried, order, forms + orders)
            reordered.append(Row(f"{tried.what}, classes {what}", miou, fix, holds))
        rows.append(max(reordered, key=lambda row: (row.holds, row.miou)))
    is_even = first.miou < twice_chance(trials[0].confusion) and evenness(trials[0].evidence) > EVEN_ENOUGH
    if is_even and not any(row.holds and row.miou - first.miou >= GAIN for row in rows):
        return Diagnosis(
            [first], _never_trained(first.miou, "its probabilities are nearly even", trials[0].confusion, use)
        )
    return Diagnosis(rows, _advice(rows))


def _override(form: Preprocess) -> str:
    return shell_word(f"teacher.args.{str(form).replace(': ', '=', 1)}")


def _holds(trial: Trial, order: Sequence[int], hypotheses: float) -> bool:
    return is_beyond_chance(trial.evidence, order, hypotheses)


def _never_trained(miou: float, sign: str, confusion: NDArray[np.int64], use: str | None) -> str:
    fix = "train it again" if use is None else "give it weights: teacher.weights=FILE"
    return (
        f"the teacher was never trained: {sign}, and as stated it scores {_percent(miou)} mIoU "
        f"(guessing scores {_percent(twice_chance(confusion) / 2)}); {fix}"
    )


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
    first, held = rows[0], [row for row in rows if row.holds]
    best = max(row.miou for row in held)
    stated = f"as stated {_percent(first.miou)}"
    if best - first.miou < GAIN:
        if max(row.miou for row in rows) - first.miou < GAIN:
            return (
                f"{stated} · nothing scores better: form, size and order of classes are right, or the weights are bad"
            )
        return (
            f"{stated} · nothing scores better than chance explains: the weights are bad, or there are too few images"
        )
    kinds = [[row for row in kind if row.holds] for kind in (rows[:-2], rows[-2:-1], rows[-1:])]  # the simplest first
    likeliest = [max(kind, key=lambda row: row.miou) for kind in kinds if kind]
    cause = next(row for row in likeliest if row.miou >= best - EQUAL)
    return f"{stated} · {cause.what} {_percent(cause.miou)} → {cause.fix}"


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
