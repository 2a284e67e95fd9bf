"""Differences over common seeds and images: what a comparison states of what distillation gained."""

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from kd.compare import compare_command, tables
from kd.compare.answer import decision, headline
from kd.compare.gathering.gather import gather
from kd.compare.page.chosen import image_miou, known
from kd.compare.plain import to_json
from kd.intervals import interval
from kd.runs import ImageCounts, SplitResult

BASE, STUDENT, TEACHER = [60, 70, 50, 80, 65], [68, 77, 60, 86, 74], [90, 92, 85, 95, 90]


def write(made, seeds=(0,), *, gain=STUDENT, groups=None):
    """A teacher, and seeds of a baseline and a student, with the counts of five images."""
    made.teacher()
    for seed in seeds:
        made.write("small_kl-bbbbbbbb", 0, seed=seed, val=made.counted(*(hits + seed for hits in BASE), groups=groups))
        ours = made.counted(*(hits + 2 * seed for hits in gain), groups=groups)
        made.student(0, seed=seed, val=ours, taught_val=made.counted(*TEACHER, groups=groups))
    return gather([str(made.folder / "small_kl-cccccccc")])


def printed(comparison_dir):
    file = io.StringIO()
    compare_command([str(comparison_dir)], html=None, console=Console(file=file, width=160, highlight=False))
    return file.getvalue()


def test_an_interval_pairs_images_and_seeds(made):
    comparison = write(made, seeds=(0, 1))
    student = comparison.of_role("student")[0]
    gain = comparison.gain(student)
    expected = interval(
        [
            (1, [made.counted(*(hits + 2 * seed for hits in STUDENT)).per_image.counts for seed in (0, 1)]),
            (-1, [made.counted(*(hits + seed for hits in BASE)).per_image.counts for seed in (0, 1)]),
        ]
    )
    assert gain.interval == pytest.approx(expected)
    assert gain.value == pytest.approx(expected.value)
    assert (gain.seeds, gain.interval.seeds, gain.interval.groups) == ((0, 1), 2, 5)
    for index in (0, 1):
        assert gain.class_intervals[index].value == pytest.approx(gain.classes[index])
    assert np.isnan(gain.class_intervals[2].value)  # a class that no image has


def test_the_sentence_has_the_interval_and_the_share_of_the_lead(made):
    comparison = write(made)
    (sentence,) = headline(comparison)
    assert sentence.startswith("Distillation gained 9.")
    words = " of the 34.3 points between baseline and teacher (27 ± 5 %) (48.1 → 57.5 % mIoU), 95 % interval +"
    assert words in sentence
    student = to_json(comparison)["networks"][-1]
    assert student["vs_baseline"]["interval"]["distinguishable"] is True
    assert student["vs_baseline"]["interval"]["low"] > 0
    assert 0 < student["closed"]["low"] < student["closed"]["value"] < student["closed"]["high"] < 100
    assert {note.kind for note in comparison.notes} == {"absent", "one seed", "few groups"}


def test_a_gain_within_the_noise_is_called_so(made):
    comparison = write(made, gain=[70, 60, 58, 72, 67])
    (sentence,) = headline(comparison)
    assert sentence.startswith("Distillation changed the mIoU by +")
    assert ": not distinguishable from 0" in sentence


def test_only_common_seeds_count(made):
    write(made, seeds=(0, 1))
    made.write("small_kl-bbbbbbbb", 0, seed=2, val=made.counted(10, 10, 10, 10, 10))
    comparison = gather([str(made.folder / "small_kl-cccccccc")])
    gain = comparison.gain(comparison.of_role("student")[0])
    assert gain.seeds == (0, 1)
    assert 0.05 < gain.value < 0.15  # a third baseline of 5 % would have made it a large gain
    (note,) = [note.text for note in comparison.notes if note.kind == "seeds differ"]
    assert "compared over 0, 1 alone; kd run recipes/small_kl.yaml 'train.seeds=[0,1,2]' --baseline trains" in note


def test_without_a_common_seed_there_is_no_gain(made):
    made.teacher()
    made.write("small_kl-bbbbbbbb", 0, seed=1, val=made.counted(*BASE))
    made.student(0, seed=0, val=made.counted(*STUDENT))
    comparison = gather([str(made.folder / "small_kl-cccccccc")])
    assert comparison.gain(comparison.of_role("student")[0]) is None
    assert headline(comparison) == [
        "Distillation: its effect is unknown, student and baseline have no seed in common",
    ]


def test_images_of_a_group_are_one_draw(made):
    comparison = write(made, groups=("a", "a", "b", "b", "b"))
    assert comparison.gain(comparison.of_role("student")[0]).interval.groups == 2
    assert any("few independent groups of images: 2; below 20" in note.text for note in comparison.notes)


def test_several_students_are_adjusted_for_their_number(made):
    write(made, seeds=(0, 1))
    for seed in (0, 1):
        ours = made.counted(*(hits + 1 for hits in STUDENT))
        made.student(0, name="small_cwd-dddddddd", seed=seed, val=ours, taught_val=made.counted(*TEACHER))
    comparison = gather([str(made.folder / name) for name in ("small_kl-cccccccc", "small_cwd-dddddddd")])
    for network in to_json(comparison)["networks"]:
        if network["role"] == "student":
            assert network["vs_baseline"]["p_holm"] >= network["vs_baseline"]["interval"]["p"]
    json.dumps(to_json(comparison), allow_nan=False)


def variants(made, gains):
    """A student for each gain in percent of the pixels, whose images differ by as much again."""
    made.teacher()
    made.write("small_kl-bbbbbbbb", 0, val=made.counted(*BASE * 5))
    names = [f"v{index}-{index:08d}" for index in range(len(gains))]
    for name, gain in zip(names, gains, strict=True):
        spread = [hits + gain * (1 + place % 3) for place, hits in enumerate(BASE * 5)]
        ours = made.counted(*(hits + (6 if place % 2 else -6) for place, hits in enumerate(spread)))
        made.student(0, name=name, val=ours, taught_val=made.counted(*TEACHER * 5))
    return gather([str(made.folder / name) for name in names])


def test_a_gain_that_only_its_number_makes_likely_is_called_so(made):
    """Of many variants, one leaves 0 out by chance: sentence, mark and colour follow the adjusted p-value."""
    comparison = variants(made, [2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    weak, strong = comparison.of_role("student")[:2]
    assert comparison.gain(weak).interval.distinguishable
    assert comparison.adjusted[weak.key] > 0.05 > comparison.adjusted[strong.key]
    lines = {line.partition(":")[0]: line for line in headline(comparison)}
    assert lines["v1"].startswith("v1: distillation gained ")
    assert lines["v0"].startswith("v0: distillation changed the mIoU by +")
    assert ": not distinguishable from 0 among 12 gains (Holm); the teacher" in lines["v0"]
    assert ": not distinguishable from 0;" in lines["v2"]
    assert [tables.gain(comparison, each).endswith(" *") for each in (weak, strong)] == [False, True]
    place = [entry.key for entry in comparison.entries].index
    assert tables.colors(comparison) == {(place(strong.key), "vs baseline"): "green"}
    assert tables.facts(comparison).endswith("; * the gain is not 0, adjusted for 12 gains (Holm)")


def test_one_gain_has_no_mark(made):
    comparison = variants(made, [7])
    assert "*" not in tables.gain(comparison, comparison.of_role("student")[0]) + tables.facts(comparison)


def test_the_decision_has_the_interval_of_the_lead(made):
    made.teacher()
    made.student(0, val=made.counted(91, 90, 84, 96, 91), taught_val=made.counted(*TEACHER))
    (line,) = decision(gather([str(made.folder / "small_kl-cccccccc")]))
    assert re.fullmatch(r"Decision: take the student: it is 0\.0 ± \d\.\d points from its teacher", line)
    made.student(0, val=made.counted(99, 90, 80, 96, 91), taught_val=made.counted(*TEACHER))
    (line,) = decision(gather([str(made.folder / "small_kl-cccccccc")]))
    assert line.startswith("Decision: take the student: it is 1.")
    assert line.endswith(" points ahead of its teacher, not distinguishable from 0")
    made.student(0, val=made.counted(99, 60, 93, 96, 70), taught_val=made.counted(*TEACHER))
    (line,) = decision(gather([str(made.folder / "small_kl-cccccccc")]))
    assert line.startswith("Decision: take the teacher where it is fast enough: the student is 1")
    assert " points below it, not distinguishable from 0 (road −1" in line


def test_a_decision_without_a_worse_class_names_none(made):
    """The student predicts a class that is absent: its IoU of 0 lowers the mean, and every other class is better."""
    made.teacher()
    ours, taught = [[98, 1, 1], [1, 98, 1], [0, 0, 0]], [[95, 5, 0], [5, 95, 0], [0, 0, 0]]
    val, taught_val = (SplitResult(np.array(matrix), ["sky", "road", "sign"], 4) for matrix in (ours, taught))
    made.student(0, val=val, taught_val=taught_val)
    assert decision(gather([str(made.folder / "small_kl-cccccccc")])) == [
        "Decision: take the teacher where it is fast enough: the student is 25.8 points below it"
    ]


@pytest.mark.parametrize("file", ["counts.npz", "teacher-counts.npz"])
def test_damaged_counts_take_the_interval_and_hide_no_run(made, file):
    write(made, seeds=(0, 1))
    damaged = made.folder / "small_kl-cccccccc" / "seed1" / file
    damaged.write_bytes(damaged.read_bytes()[:-9])
    comparison = gather([str(made.folder / "small_kl-cccccccc")])
    student = comparison.of_role("student")[0]
    assert student.seeds == (0, 1)
    of_gain, of_lead = comparison.gain(student).interval, comparison.to_teacher(student).interval
    assert (of_gain is None, of_lead) == (file == "counts.npz", None)
    (note,) = [note.text for note in comparison.notes if note.kind == "damaged"]
    assert note.startswith(f"left out, so that there is no interval: {damaged}: ")
    assert not [note for note in comparison.notes if note.kind == "no interval"]  # which gives another reason


def test_a_student_below_its_baseline_is_never_the_choice(made):
    """Whatever the teacher: the baseline is the same network, and better. Where that may be noise, the rule holds."""
    write(made, gain=[hits - 9 for hits in BASE])
    (line,) = decision(gather([str(made.folder / "small_kl-cccccccc")]))
    assert re.fullmatch(
        r"Decision: take the baseline: with the same network, the student is \d\.\d ± \d\.\d points below it; "
        r"the teacher is 34\.3 points above it",
        line,
    )
    made.student(
        0, val=made.counted(*(hits - 9 for hits in BASE)), taught_val=made.counted(*(hits - 10 for hits in BASE))
    )
    (line,) = decision(gather([str(made.folder / "small_kl-cccccccc")]))
    assert line.endswith(" points below it")
    write(made, gain=[51, 79, 41, 89, 60])
    (line,) = decision(gather([str(made.folder / "small_kl-cccccccc")]))
    assert line.startswith("Decision: take the teacher")


def rare(hits):
    """Twenty images of the first class; the first of them has the second class too, with some pixels right."""
    images = np.array([[[900, 1000 - hits, 900], [hits, hits, 100]]] + [[[1000, 1000, 1000], [0, 0, 0]]] * 19)
    right, wrong = 900 + 19 * 1000, 100 - hits
    names = tuple(f"{place}.png" for place in range(20))
    return SplitResult(
        np.array([[right, 0], [wrong, hits]]), ["ground", "rare"], 20, per_image=ImageCounts(names, images)
    )


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_class_of_a_single_image_has_no_interval(made, seeds):
    for seed in seeds:
        made.baseline(seed=seed, val=rare(40))
        made.student(seed=seed, val=rare(60), taught_val=rare(90))
    comparison = gather([made.folder / "small_kl-cccccccc"])
    ground, one = comparison.gain(comparison.of_role("student")[0]).class_intervals
    assert (ground.known, one.known, one.distinguishable) == (True, False, False)
    of_json = to_json(comparison)["networks"][-1]["vs_baseline"]["iou"]["rare"]
    assert of_json == {"points": 20.0, "interval": None}
    assert "rare" not in [title for _, title in tables.class_colors(comparison)]


def reordered(split, order):
    names, counts, groups = split.per_image
    images = ImageCounts(
        tuple(names[place] for place in order),
        counts[order],
        None if groups is None else tuple(groups[place] for place in order),
    )
    return SplitResult(split.confusion, split.classes, split.images, per_image=images)


def sized(hits, groups=None):
    """Images of different sizes, so that their order shows in the labelled pixels."""
    counts = np.array([[[right, 100 + i, 100 + i]] * 2 + [[0, 0, 0]] for i, right in enumerate(hits)])
    right, labelled = sum(hits), int(counts[:, 0, 2].sum())
    wrong = labelled - right
    matrix = np.array([[right, wrong, 0], [wrong, right, 0], [0, 0, 0]])
    images = ImageCounts(tuple(f"{i}.png" for i in range(len(hits))), counts, groups)
    return SplitResult(matrix, ["sky", "road", "sign"], len(hits), per_image=images)


def test_images_are_paired_by_name(made):
    order = [4, 2, 0, 3, 1]
    made.baseline(val=sized(BASE))
    made.student(val=sized(STUDENT), taught_val=sized(TEACHER))
    (straight,) = gather([made.folder / "small_kl-cccccccc"]).gains.values()
    made.baseline(val=reordered(sized(BASE), order))
    comparison = gather([made.folder / "small_kl-cccccccc"])
    paired = comparison.gains["small_kl-cccccccc"].interval
    assert (paired.value, paired.low) == pytest.approx((straight.interval.value, straight.interval.low))
    assert known(comparison, comparison.of_role("student")[0]).differences == pytest.approx(
        image_miou(sized(STUDENT).per_image.counts) - image_miou(sized(BASE).per_image.counts)
    )
    assert not [note for note in comparison.notes if note.kind == "no interval"]


@pytest.mark.parametrize("grouped", ["baseline", "student"])
def test_images_that_one_run_groups_are_groups_for_all(made, grouped):
    groups = ("a", "a", "b", "b", "b")
    order = [4, 2, 0, 3, 1]
    made.baseline(val=reordered(sized(BASE, groups if grouped == "baseline" else None), order))
    made.student(val=sized(STUDENT, groups if grouped == "student" else None), taught_val=sized(TEACHER))
    comparison = gather([made.folder / "small_kl-cccccccc"])
    expected = interval([(1, [sized(STUDENT).per_image.counts]), (-1, [sized(BASE).per_image.counts])], groups)
    assert comparison.gains["small_kl-cccccccc"].interval.image_variance == pytest.approx(expected.image_variance)
    assert any("few independent groups of images: 2" in note.text for note in comparison.notes)


def test_there_is_no_share_of_a_lead_below_0(made):
    made.baseline(val=made.counted(*BASE))
    worse = [[hits - less for hits in BASE] for less in (8, 4)]
    made.student(val=made.counted(*worse[0]), taught_val=made.counted(*worse[1]))
    comparison = gather([made.folder / "small_kl-cccccccc"])
    assert to_json(comparison)["networks"][-1]["closed"] is None
