"""Differences over common seeds and images: what a comparison states of what distillation gained."""

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from kd.compare import compare_command, tables
from kd.compare.answer import decision, headline
from kd.compare.gather import gather
from kd.compare.intervals import interval
from kd.compare.plain import to_json
from kd.runs import SplitResult

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
