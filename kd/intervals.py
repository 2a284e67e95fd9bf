"""Confidence intervals of scores and of their differences, over seeds and images, from each image's counts.

A difference is paired: both networks are scored on the same images, and seed k of one belongs to seed k of the other.
With S ≥ 2 seeds and the difference d_s of each, the 95 % interval is the mean of d_s, plus and minus

    √( t²·s² / S + 1.96²·v )

t is Student's quantile for S − 1 degrees of freedom, and s the standard deviation of d_s: the noise of training. v is
the variance of the mean under a bootstrap over images, or over groups of images that belong together (the frames of a
scene, the images of a patient): the noise of the choice of images. With one seed, the first part is unknown and left
out.
"""

import math
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]  # summed counts (..., K, 3) to one number (...), or to several (..., M)

LEVEL = 0.95
DRAWS = 1000  # of the bootstrap, which draws the same images in every call
FEW_GROUPS = 20  # below, the bootstrap's variance is itself uncertain
_BLOCK = 16_000_000  # numbers in a block of bootstrap weights: 128 MB


class Interval(NamedTuple):
    """A score or difference, its uncertainty, and what that rests on; shares from 0 to 1."""

    value: float  # the mean over seeds
    seed_variance: float  # of the mean, by training (s² / S); NaN for one seed
    image_variance: float  # of the mean, by the choice of images; NaN for one group
    seeds: int
    groups: int  # of images; the number of images where none belong together

    @property
    def half_width(self) -> float:
        """Of the interval at `LEVEL`; NaN where the images form a single group."""
        return self.half_width_at(LEVEL)

    def half_width_at(self, level: float) -> float:
        """Half the width of the interval that holds the truth in a share `level` of all studies."""
        normal, student = _quantiles(level, self.seeds)
        square = normal**2 * self.image_variance if self.image_variance else 0.0  # not ∞ · 0 at level 1
        if self.seeds > 1 and self.seed_variance:
            square += student**2 * self.seed_variance
        return math.sqrt(square)

    @property
    def low(self) -> float:
        """The lower end."""
        return self.value - self.half_width

    @property
    def high(self) -> float:
        """The upper end."""
        return self.value + self.half_width

    @property
    def known(self) -> bool:
        """Whether there is an interval; a single group of images has none."""
        return not math.isnan(self.half_width)

    @property
    def distinguishable(self) -> bool:
        """Whether the interval excludes 0."""
        return abs(self.value) > self.half_width

    @property
    def p_value(self) -> float:
        """1 − the level of the interval that ends at 0; NaN where there is no interval."""
        if not self.known:
            return math.nan
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.half_width_at(middle) < abs(self.value) else (low, middle)
        return 1 - low


def miou(totals: Floats) -> Floats:
    """Mean IoU (...) of summed counts (..., K, 3): over the classes that are labelled or predicted."""
    return mean_over(iou(totals))


def mean_over(classes: Floats) -> Floats:
    """The mean (...) of IoU (..., K) over the classes that occur."""
    occurs = ~np.isnan(classes)
    with np.errstate(invalid="ignore"):
        return np.where(occurs, classes, 0).sum(-1) / occurs.sum(-1)  # type: ignore[no-any-return]


def miou_and_iou(totals: Floats) -> Floats:
    """Mean IoU and the IoU of each class (..., 1 + K) of summed counts (..., K, 3)."""
    classes = iou(totals)
    return np.concatenate((mean_over(classes)[..., None], classes), axis=-1)


def iou(totals: Floats) -> Floats:
    """IoU (..., K) of summed counts (..., K, 3): intersection, predicted, labelled; NaN for a class that is absent."""
    hits, predicted, labelled = np.moveaxis(totals, -1, 0)
    with np.errstate(invalid="ignore"):
        return hits / (predicted + labelled - hits)  # type: ignore[no-any-return]


def interval(
    terms: Sequence[tuple[float, Sequence[Counts]]],
    groups: Sequence[str] | None = None,
    *,
    score: Score = miou_and_iou,
) -> Interval:
    """The interval of the score's first number: see `intervals`."""
    return intervals(terms, groups, score=score, most=1)[0]


def intervals(
    terms: Sequence[tuple[float, Sequence[Counts]]],
    groups: Sequence[str] | None = None,
    *,
    score: Score = miou_and_iou,
    most: int | None = None,
) -> list[Interval]:
    """The intervals of Σ factor · score over networks, paired by seed and image.

    Args:
        terms: of each network its factor, and of each seed the counts int64 (images, K, 3) of every image; 1 and −1 for
            a difference. An array is scored once: it must not be written to later.
        groups: of each image the name of its group; None: every image is its own.
        score: of summed counts.
        most: how many of the score's numbers are wanted; None: all.

    Returns:
        One interval for each number of the score; its value is NaN where no seed has one.

    Raises:
        ValueError: the networks have different numbers of seeds or images, or no seed.
    """
    shapes = {np.shape(counts) for _, seeds in terms for counts in seeds}
    lengths = {len(seeds) for _, seeds in terms}
    if len(shapes) != 1 or len(lengths) != 1:
        raise ValueError(f"counts of shapes {sorted(shapes)} and {sorted(lengths)} seeds; an interval needs equal ones")
    size, named = lengths.pop(), None if groups is None else tuple(groups)
    factors = [factor for factor, _ in terms]
    runs = [[_scored(_Same(counts), named, score) for counts in seeds] for _, seeds in terms]
    seeds = list(zip(*runs, strict=True))  # of each seed, one run of each term
    number = runs[0][0].groups
    values = np.stack([_combined(factors, [run.whole[:most] for run in seed]) for seed in seeds])  # (S, M)
    drawn = np.stack([_combined(factors, [run.drawn[:, :most] for run in seed]) for seed in seeds])  # (S, draws, M)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a class that no seed or draw has: NaN is the answer
        means = np.nanmean(drawn, axis=0)  # (draws, M)
        value, of_images = np.nanmean(values, axis=0), np.nanvar(means, axis=0)
        of_seeds = np.nanvar(values, axis=0, ddof=1) / size if size > 1 else np.full_like(value, math.nan)
    # a bootstrap's variance lacks the factor n / (n − 1), as any variance around the sample's own mean does
    of_images = of_images * number / (number - 1) if number > 1 else np.full_like(value, math.nan)
    rows = zip(value.tolist(), of_seeds.tolist(), of_images.tolist(), strict=True)
    return [Interval(*row, seeds=size, groups=number) for row in rows]


def closed(
    student: Sequence[Counts],
    baseline: Sequence[Counts],
    teacher: Sequence[Counts],
    groups: Sequence[str] | None = None,
) -> Interval | None:
    """The share of the teacher's lead over the baseline that the student has closed.

    None where the lead may be 0, or is negative: a share of it has no meaning.

    The interval of a quotient by the delta method: that of (gain − share · lead) / lead.
    """
    lead = interval([(1, teacher), (-1, baseline)], groups)
    if not lead.distinguishable or lead.value <= 0:
        return None
    gains = [miou(ours.sum(0)) - miou(theirs.sum(0)) for ours, theirs in zip(student, baseline, strict=True)]
    share = float(np.mean(gains)) / lead.value
    rest = interval([(1, student), (share - 1, baseline), (-share, teacher)], groups)  # its value is 0
    variances = (rest.seed_variance / lead.value**2, rest.image_variance / lead.value**2)
    return Interval(share, *variances, rest.seeds, rest.groups)


def labelled_groups(counts: Counts, groups: Sequence[str] | None = None) -> NDArray[np.int64]:
    """The groups of images (K,) in which each class is labelled, of counts (images, K, 3).

    Of a class in a single one, every draw of the bootstrap has the same IoU: its variance is 0, and shows nothing.
    """
    found: NDArray[np.int64] = (_summed(counts, _members(groups, len(counts)))[..., 2] > 0).sum(0)
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's method; 1 for NaN.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    given = [1.0 if math.isnan(p) else p for p in p_values]
    order = sorted(range(len(given)), key=given.__getitem__)
    adjusted, highest = [1.0] * len(given), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(given) - rank) * given[index]))
        adjusted[index] = highest
    return adjusted


@lru_cache(maxsize=1024)
def _quantiles(level: float, seeds: int) -> tuple[float, float]:
    """The ends of the interval at `level` of a normal and of a t distribution, in standard deviations."""
    from scipy.special import ndtri, stdtrit  # slow to import, and `kd list` computes no interval

    tail = (1 + level) / 2
    return float(ndtri(tail)), float(stdtrit(seeds - 1, tail)) if seeds > 1 else math.nan


class _Same:
    """An array as a key: equal to itself alone, and not kept alive."""

    def __init__(self, array: Counts) -> None:
        self.array = weakref.ref(array)
        self._hash = id(array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.array() is other.array()

    def __hash__(self) -> int:
        return self._hash


class _Scored(NamedTuple):
    """The numbers M that a score has for one seed of a network."""

    whole: Floats  # (M,), of all images
    drawn: Floats  # (draws, M), of the images of each draw
    groups: int  # of images


@lru_cache(maxsize=32)  # a student's differences from its baseline and its teacher have runs in common
def _scored(counts: _Same, groups: tuple[str, ...] | None, score: Score) -> _Scored:
    """Score the counts int64 (images, K, 3) of one seed."""
    array = counts.array()
    assert array is not None
    summed = _summed(array, _members(groups, len(array)))
    by_kind = np.ascontiguousarray(np.moveaxis(summed, -1, 0))  # (3, G, K)
    drawn = [score(np.moveaxis(weights @ by_kind, 0, -1)) for weights in _weights(len(summed))]
    parts = [part.reshape(len(part), -1) for part in drawn]
    return _Scored(np.atleast_1d(score(summed.sum(0))), np.concatenate(parts), len(summed))


def _combined(factors: Sequence[float], scores: Sequence[Floats]) -> Floats:
    """Σ factor · score."""
    return sum((factor * each for factor, each in zip(factors[1:], scores[1:], strict=True)), factors[0] * scores[0])


def _members(groups: Sequence[str] | None, images: int) -> NDArray[np.intp]:
    """The number of each image's group."""
    if groups is None:
        return np.arange(images)
    if len(groups) != images:
        raise ValueError(f"{len(groups)} groups for {images} images; give each image its group")
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def _summed(counts: Counts, members: NDArray[np.intp]) -> Floats:
    """Counts (G, K, 3) of the groups of images (images, K, 3)."""
    number = int(members.max()) + 1
    if number == len(members):  # each image is its own group, whatever their order: `np.add.at` is slow
        return counts.astype(np.float64)
    totals = np.zeros((number, *counts.shape[1:]))
    np.add.at(totals, members, counts)
    return totals


@lru_cache(maxsize=1)
def _weights(groups: int) -> list[Floats]:
    """How often each draw of the bootstrap takes each group, float64 (draws, groups), in blocks of draws."""
    generator = np.random.default_rng(0)
    size = max(1, _BLOCK // groups)
    equal = np.full(groups, 1 / groups)
    return [
        generator.multinomial(groups, equal, size=min(size, DRAWS - start)).astype(np.float64)
        for start in range(0, DRAWS, size)
    ]
