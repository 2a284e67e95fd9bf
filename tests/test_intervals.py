"""Intervals against hand-worked variances, and their coverage in simulated studies."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kd.intervals import FEW_GROUPS, Interval, closed, holm, interval, iou, miou

K = 3


def accuracy(totals):
    """Correct pixels per labelled pixel: linear in the counts where all images have equally many pixels."""
    return totals[..., 0].sum(-1) / totals[..., 2].sum(-1)


def counts(hits, pixels=1000):
    """Counts (images, K, 3) of images of `pixels` pixels a class, with these shares of hits (images, K)."""
    right = np.round(np.asarray(hits, np.float64) * pixels).astype(np.int64)
    right = np.broadcast_to(right if right.ndim == 2 else right[:, None], (len(right), K))
    predicted = right + np.roll(pixels - right, 1, axis=1)  # what one class misses, the next one gets
    return np.stack((right, predicted, np.full_like(right, pixels)), axis=-1)


def test_iou_and_miou_by_hand():
    totals = np.array([[6, 8, 10], [0, 0, 0], [3, 3, 3]], np.float64)  # 6 / 12, nothing, 3 / 3
    np.testing.assert_equal(iou(totals), [0.5, math.nan, 1.0])
    assert miou(totals) == 0.75


def test_one_seed_rests_on_the_images_alone():
    hits = np.array([0.1, 0.4, 0.4, 0.7])
    result = interval([(1.0, [counts(hits)])], score=accuracy)
    assert (result.value, result.seeds, result.groups) == (pytest.approx(0.4), 1, 4)
    assert math.isnan(result.seed_variance)
    assert result.image_variance == pytest.approx(hits.var(ddof=1) / 4, rel=0.1)  # the variance of a mean of 4
    assert result.half_width == pytest.approx(1.959964 * math.sqrt(result.image_variance))


def test_two_seeds_add_students_variance_of_the_paired_differences():
    ours = [counts(np.full(5, 0.70)), counts(np.full(5, 0.80))]
    theirs = [counts(np.full(5, 0.65)), counts(np.full(5, 0.71))]
    result = interval([(1, ours), (-1, theirs)], score=accuracy)
    assert result.value == pytest.approx(0.07)  # of 0.05 and 0.09
    assert result.seed_variance == pytest.approx(0.0008 / 2)  # s² = (0.02² + 0.02²) / 1, over S = 2
    assert result.image_variance == pytest.approx(0, abs=1e-20)
    assert result.half_width == pytest.approx(12.7062047 * 0.02)
    assert not result.distinguishable


def test_pairing_removes_what_both_networks_share():
    difficulty = np.linspace(0.2, 0.9, 30)
    result = interval([(1, [counts(difficulty + 0.05)]), (-1, [counts(difficulty)])], score=accuracy)
    assert result.value == pytest.approx(0.05)
    assert result.half_width < 1e-6
    assert result.distinguishable


def test_a_run_is_scored_once_for_all_its_differences():
    scored = []

    def spied(totals):
        scored.append(totals.shape[:-2])
        return accuracy(totals)

    student, baseline, teacher = (counts(np.linspace(low, 0.9, 5)) for low in (0.5, 0.4, 0.6))
    first = interval([(1, [student]), (-1, [baseline])], score=spied)
    interval([(1, [student]), (-1, [teacher])], score=spied)
    assert sorted(scored) == [(), (), (), *[(1000,)] * 3]  # three runs, each as a whole and in the draws
    changed = interval([(1, [student.copy()]), (-1, [baseline])], list("aabbc"), score=spied)
    assert changed.groups == 3
    assert interval([(1, [student.copy()]), (-1, [baseline])], score=spied) == pytest.approx(first, nan_ok=True)


def test_images_of_a_group_are_drawn_together():
    hits = np.repeat([0.2, 0.4, 0.6, 0.8], 5)
    alone = interval([(1, [counts(hits)])], score=accuracy)
    together = interval([(1, [counts(hits)])], np.repeat(["a", "b", "c", "d"], 5).tolist(), score=accuracy)
    assert (alone.groups, together.groups) == (20, 4)
    assert together.image_variance == pytest.approx(np.var([0.2, 0.4, 0.6, 0.8], ddof=1) / 4, rel=0.1)
    assert together.image_variance > 4 * alone.image_variance


def test_one_group_has_no_interval():
    result = interval([(1, [counts([0.5, 0.6])])], ["a", "a"])
    assert math.isnan(result.half_width)
    assert math.isnan(result.p_value)
    assert not result.distinguishable


def test_the_p_value_is_that_of_the_test_that_the_interval_inverts():
    seeds = Interval(0.03, 0.01**2, 0.0, 4, 50)
    assert seeds.p_value == pytest.approx(2 * stats.t.sf(3.0, 3))
    images = Interval(0.03, math.nan, 0.01**2, 1, 50)
    assert images.p_value == pytest.approx(2 * stats.norm.sf(3.0))


@given(st.floats(-0.5, 0.5), st.floats(1e-6, 0.05), st.floats(1e-6, 0.05), st.integers(2, 6))
def test_an_interval_excludes_0_where_its_p_value_is_below_5_percent(value, seeds, images, number):
    result = Interval(value, seeds**2, images**2, number, 50)
    assert result.distinguishable == (result.p_value < 0.05)


def test_the_closed_share_of_the_lead():
    rng = np.random.default_rng(1)
    difficulty = rng.uniform(0.2, 0.6, 200)
    baseline, student, teacher = (counts(difficulty + lead) for lead in (0.0, 0.1, 0.3))
    share = closed([student], [baseline], [teacher])
    assert share.value == pytest.approx(1 / 3, abs=0.05)
    assert 0 < share.half_width < 0.05
    assert closed([student], [baseline], [baseline]) is None  # no lead


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, math.nan]) == [0.04, 0.09, 0.09, 1.0]
    assert holm([]) == []


def test_unequal_seeds_or_images_are_refused():
    with pytest.raises(ValueError, match=r"1, 2\] seeds; an interval needs equal ones"):
        interval([(1, [counts([0.5])]), (-1, [counts([0.5]), counts([0.5])])])
    with pytest.raises(ValueError, match="1 groups for 2 images; give each image its group"):
        interval([(1, [counts([0.5, 0.6])])], ["a"])


def coverage(seeds, ratio, *, groups=100, frames=1, studies=2000):
    """The share of simulated studies whose interval holds the true difference.

    Of `groups` scenes of `frames` equal frames, each scene and each seed shifts one network's accuracy; `ratio` is the
    variance of a mean over seeds by the seeds, relative to that by the scenes.
    """
    rng = np.random.default_rng((seeds, round(10 * ratio), groups))
    truth, scene = 0.05, 0.05
    noise = scene / math.sqrt(groups) * math.sqrt(ratio * seeds)
    names = np.repeat(np.arange(groups), frames).astype(str).tolist()
    held = 0
    for _ in range(studies):
        of_scene = np.repeat(rng.normal(0, scene, groups), frames)
        theirs = [counts(np.full(groups * frames, 0.5), 10**6) for _ in range(seeds)]
        ours = [counts(0.5 + truth + of_scene + rng.normal(0, noise), 10**6) for _ in range(seeds)]
        result = interval([(1, ours), (-1, theirs)], names, score=accuracy)
        held += result.low <= truth <= result.high
    return held / studies


MOST = {2: 0.995, 3: 0.985, 5: 0.975}


@pytest.mark.parametrize(("seeds", "ratio"), [(2, 0.1), (3, 1), (5, 10)])
def test_coverage_in_a_few_studies(seeds, ratio):
    assert coverage(seeds, ratio, studies=150) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("groups", [100, FEW_GROUPS])
@pytest.mark.parametrize("ratio", [0.1, 1, 10])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_coverage(seeds, ratio, groups):
    share = coverage(seeds, ratio, groups=groups, frames=1 if groups == 100 else 5)
    print(f"{seeds} seeds, ratio {ratio}, {groups} groups: {100 * share:.1f} %")
    assert 0.935 <= share <= MOST[seeds]
