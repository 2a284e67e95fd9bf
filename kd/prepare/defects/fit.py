"""Whether masks fit their images: by the colours of the classes, and by the edges under their boundaries.

Two measures of a mask on an image are taken from small copies. Colour: how much likelier the colours of the cells are
under their classes than without them, by the counts of all other images (nats a cell). Edges: the slope of the image at
the boundaries of the mask, in units of the image's mean slope. For masks of other images both are known too, which
shows how well the two measures tell right from wrong in this data set; where they cannot, nothing is reported.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.prepare.defects import measures, moves
from kd.prepare.defects.copies import Look
from kd.prepare.defects.measures import Cells, Codes, Slopes

LEAST = 8  # images with labels: of fewer nothing is typical
MOVED = 2  # cells: a smaller shift is within what annotators do
POWER = 3.0  # standard deviations between masks on their own and on other images
OUTLIER = 3.5  # standard deviations of an own mask below the typical one
LEAST_FIT = 5.0  # standard deviations that a mask which fits may be below the typical one
LOOKED_AT = 50  # images, at most, whose masks are compared with all others
GAIN = 0.2  # of the distance between own and unrelated masks: what another mask must fit better
SURE = 5.0  # standard errors of what concerns the whole set
ENOUGH = 200  # images that show what concerns the whole set
NOTHING = np.array([1.0, 0.0])  # the measures of edges and of colour where masks show nothing
SHOWN = np.array([0.2, 0.05])  # and how much more masks that fit show, at least


class Misfit(NamedTuple):
    """A mask that does not fit its image; of the whole set if `image` is None."""

    image: int | None
    kind: str
    text: str  # what would fit
    other: int | None = None  # the image whose mask would fit


class Measure(NamedTuple):
    """The values of a measure on the images' own masks, and on those of other images."""

    own: NDArray[np.float64]
    typical: float
    spread: float
    unrelated: float
    unrelated_spread: float

    @property
    def weight(self) -> float:
        """The factor in a sum of measures that tells right from wrong best, if their values are independent."""
        apart = self.typical - self.unrelated
        return apart / (self.spread**2 + self.unrelated_spread**2) if self.power > 1 else 0.0

    @property
    def power(self) -> float:
        """How far the own masks are from unrelated ones, in standard deviations."""
        return (self.typical - self.unrelated) / float(np.hypot(self.spread, self.unrelated_spread))

    def outliers(self) -> list[int]:
        """The images whose own masks are far below the typical one: the worst first."""
        worst = np.argsort(self.own)[:LOOKED_AT]
        return [int(index) for index in worst if self.own[index] < self.typical - OUTLIER * self.spread]

    def is_below_chance(self, index: int) -> bool:
        """Whether an image's own mask fits clearly worse than those of other images do."""
        return bool(self.own[index] < self.unrelated - OUTLIER * self.unrelated_spread)

    def explains(self, index: int, value: float) -> bool:
        """Whether a value is one of a mask that fits, and much above that of the image's own mask."""
        apart = self.typical - self.unrelated
        fits = value > max(self.typical - LEAST_FIT * self.spread, self.unrelated + apart / 2)
        return fits and value - self.own[index] > GAIN * apart


def misfits(looks: Sequence[Look], classes: Sequence[str]) -> tuple[list[Misfit], str]:
    """The masks that do not fit, and a line for the user where that cannot be decided.

    Args:
        looks: of images with more than one class in their mask.
        classes: the names.
    """
    if len(looks) < LEAST:
        return [], f"whether masks fit their images was not looked at: fewer than {LEAST} masks hold several classes"
    if whole := of_the_set(looks, len(classes)):
        return whole, ""
    fit = Fit(looks, len(classes))
    if max(fit.both.power, fit.color.power) < POWER:
        line = "whether single masks fit their images is undecided: colours and edges show too little of the classes"
        return [], line
    return [*fit.of_single(), *fit.inverted(classes)], ""


class Fit:
    """The measures of a set.

    Args:
        looks: of images with more than one class in their mask.
        classes: K.
    """

    def __init__(self, looks: Sequence[Look], classes: int) -> None:
        self.classes = classes
        self.labels = [look.labels for look in looks]
        self.codes = [look.codes for look in looks]
        self.edges = [measures.smoothed(look) for look in looks]
        self._counts = [measures.count(look.codes, look.labels, classes) for look in looks]
        self._total = np.sum(self._counts, axis=0, dtype=np.int64)
        self._last: tuple[int, NDArray[np.float64]] = -1, np.empty((0, 0))  # the table of the last image
        self.color = self._measure(self.colors_of)
        self.edge = self._measure(self.edges_of)
        self.both = self._measure(self.evidence)

    def colors_of(self, index: int, labels: Cells) -> float:
        """The measure of colour."""
        if self._last[0] != index:
            self._last = index, measures.table(self._total - self._counts[index])
        return measures.likelier(self._last[1], self.codes[index], labels)

    def edges_of(self, index: int, labels: Cells) -> float:
        """The measure of edges."""
        return measures.slope(self.edges[index], labels)

    def evidence(self, index: int, labels: Cells) -> float:
        """Both measures, weighted by how well they tell right from wrong."""
        return self.color.weight * self.colors_of(index, labels) + self.edge.weight * self.edges_of(index, labels)

    def of_single(self) -> Iterator[Misfit]:
        """The images whose own mask fits as badly as another image's, while something else fits as the others do."""
        measure = self.both
        if measure.power < POWER:
            return
        for index in measure.outliers():
            value, misfit = max(self._alternatives(index), key=lambda option: option[0])
            if measure.explains(index, value):
                yield misfit

    def inverted(self, classes: Sequence[str]) -> Iterator[Misfit]:
        """The images whose colours fit once two classes are exchanged."""
        measure = self.color
        for index in measure.outliers():
            if measure.power < POWER and not measure.is_below_chance(index):
                continue
            labels = self.labels[index]
            present = [c for c in range(self.classes) if (labels == c).any()]
            options = []
            for first in present:
                for second in range(self.classes):
                    if second != first and (second > first or second not in present):
                        swapped = moves.exchange(labels, first, second)
                        options.append((self.colors_of(index, swapped), first, second))
            value, first, second = max(options, default=(-np.inf, 0, 0))
            chance = self.edge.unrelated + 2 * self.edge.unrelated_spread
            in_place = self.edge.power < 1 or self.edges_of(index, labels) > chance or measure.is_below_chance(index)
            if in_place and measure.explains(index, value):
                text = f"it fits when {classes[first]} and {classes[second]} are exchanged"
                yield Misfit(index, "inverted classes", text)

    def _alternatives(self, index: int) -> Iterator[tuple[float, Misfit]]:
        """Other masks for an image, each with its evidence."""
        own = self.labels[index]
        for how, turn in moves.TURNS.items():
            yield self.evidence(index, turn(own)), Misfit(index, "mirrored mask", f"it fits when it is {how}")
        by_edges = moves.peak(moves.correlation(self.edges[index], own))
        by_both = moves.climbed(lambda down, right: self.evidence(index, moves.move(own, down, right)))
        for down, right in {by_edges, by_both}:
            if max(abs(down), abs(right)) >= MOVED:
                text = f"it fits when it is moved {moves.direction(down, right)}"
                yield self.evidence(index, moves.move(own, down, right)), Misfit(index, "shifted mask", text)
        for other, labels in enumerate(self.labels):
            if other != index:
                yield self.evidence(index, labels), Misfit(index, "swapped mask", "", other)

    def _measure(self, of: Callable[[int, Cells], float]) -> Measure:
        count = len(self.labels)
        own = np.array([of(i, labels) for i, labels in enumerate(self.labels)])
        offsets = sorted({1, count // 3 + 1, count // 2})
        others = np.array([of(i, self.labels[(i + offset) % count]) for i in range(count) for offset in offsets])
        return Measure(own, *_typical(own), *_typical(others))


def of_the_set(looks: Sequence[Look], classes: int) -> list[Misfit]:
    """What would fit all images better, if it is clear: their masks mirrored, or moved."""
    looks = looks[:: -(-len(looks) // ENOUGH)]
    codes, edges = [look.codes for look in looks], [measures.smoothed(look) for look in looks]

    def measured(masks: Sequence[Cells]) -> NDArray[np.float64]:
        return np.array(
            [measures.edges_of_all(edges, masks), measures.colors_of_all(codes, masks, classes)]
        )  # (2, images)

    masks = [look.labels for look in looks]
    own, best, found = measured(masks), 0.0, []
    for kind, text, least, moved in _of_all(masks, edges, codes, classes):
        values = measured(moved)
        gains = values - own
        errors = np.maximum(gains.std(1, ddof=1) / np.sqrt(len(looks)), 1e-6)
        above = values.mean(1) - NOTHING  # what the edges and the colours show of the moved masks
        sure = (gains.mean(1) > SURE * errors) & (above > SHOWN) & (gains.mean(1) > least * above)
        gain = float((gains.mean(1) / errors)[sure].max(initial=0))
        if gain > best:
            best, found = gain, [Misfit(None, kind, text)]
    return found


def _of_all(
    masks: Sequence[Cells], edges: Sequence[Slopes], codes: Sequence[Codes], classes: int
) -> Iterator[tuple[str, str, float, list[Cells]]]:
    """Other masks for all images: kind, text, the least share by which they must be better, and the masks."""
    for how, turn in moves.TURNS.items():
        yield "mirrored set", f"all masks fit when they are {how}", 0.5, [turn(labels) for labels in masks]
    by_edges = moves.peak(np.sum([moves.correlation(*pair) for pair in zip(edges, masks, strict=True)], axis=0))
    by_colors = moves.climbed(
        lambda down, right: measures.colors_of_all(codes, [moves.move(m, down, right) for m in masks], classes).mean()
    )
    for down, right in {by_edges, by_colors}:
        if max(abs(down), abs(right)) >= MOVED:
            moved = [moves.move(labels, down, right) for labels in masks]
            yield "shifted set", f"all masks fit when they are moved {moves.direction(down, right)}", 0.15, moved


def _typical(values: NDArray[np.float64]) -> tuple[float, float]:
    """The median, and the standard deviation that the median deviation of a normal distribution has."""
    middle = float(np.median(values))
    return middle, max(1.4826 * float(np.median(np.abs(values - middle))), 1e-6)
