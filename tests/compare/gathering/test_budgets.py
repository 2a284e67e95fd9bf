"""Fair gains: what a comparison states where budgets differ, and where a better baseline is among the runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd.compare import answer, tables
from kd.compare.gathering.gather import gather

RECIPE = """\
student: {{use: students.MobileNetV3SmallASPP}}
data: {{use: kd.data.Shapes, args: {{count: {count}}}, size: [{size}, 64]}}
supervised: {{use: kd.losses.CrossEntropy}}
optimizer: {{use: torch.optim.SGD, args: {{lr: 0.1}}}}
train: {{steps: {steps}, batch_size: 2}}
"""


def recipe(made: Any, name: str, *, size: int = 64, steps: int = 10, count: int = 9) -> None:
    run_dir = made.folder / name / "seed0"
    run_dir.mkdir(parents=True)
    (run_dir / "recipe.yaml").write_text(RECIPE.format(size=size, steps=steps, count=count))


def budgets(*run_dirs: Path) -> list[str]:
    return [note.text for note in gather(run_dirs).notes if note.kind == "budget"]


def test_equal_budgets_need_no_line(trio: Callable[..., Path]) -> None:
    assert budgets(trio()) == []


def test_a_difference_of_two_percent_is_none(trio: Callable[..., Path]) -> None:
    assert budgets(trio(seconds=672.0 * 1.019, images_per_second=29.06)) == []


def test_images_and_time_are_told_apart(made: Any, trio: Callable[..., Path]) -> None:
    # a student that needs 1.5 times as long for the same 19,528 images, as its teacher runs beside it
    assert budgets(trio(seconds=1008.0, images_per_second=29.06 / 1.5)) == [
        "training time, in times the baseline's: student 1.50 (the training of the teacher is not in it)",
    ]


def test_more_images_are_named_with_both_numbers(trio: Callable[..., Path]) -> None:
    assert budgets(trio(seconds=672.0, images_per_second=58.12)) == [
        "images seen in training, in times the baseline's: student 2.00 (39,057 and 19,528)",
    ]


def test_several_students_share_a_line(made: Any, trio: Callable[..., Path]) -> None:
    other = made.student(name="other-eeeeeeee", seconds=672.0, images_per_second=87.18)
    assert budgets(trio(seconds=672.0, images_per_second=58.12), other) == [
        "images seen in training, in times the baseline's: small_kl 2.00 (39,057 and 19,528), "
        "other 3.00 (58,585 and 19,528)",
    ]


def test_a_run_that_saw_no_image_has_no_ratio(made: Any, trio: Callable[..., Path]) -> None:
    student = trio()
    made.baseline(images_per_second=0.0)
    assert budgets(student) == []


def test_students_with_other_baselines_are_compared_with_the_one_that_saw_the_fewest_images(
    made: Any, trio: Callable[..., Path]
) -> None:
    first = trio()
    made.write("long-dddddddd", 80, seconds=6720.0)
    longer = made.student(name="long-eeeeeeee", baseline="long-dddddddd", seconds=6720.0)
    alike = made.student(name="hint-ffffffff")  # with the baseline of the first
    alone = made.student(name="none-99999999", baseline="none-88888888", seconds=1344.0)
    assert budgets(first, alike, longer, alone) == [
        "images seen in training, in times those of small_kl: "
        "long 10.00 (195,283 and 19,528), none 2.00 (39,057 and 19,528)",
    ]
    assert budgets(first, alike) == []


LONGER = "longer-eeeeeeee"


def test_a_better_baseline_of_the_same_network_data_and_size_marks_the_gain(
    made: Any, trio: Callable[..., Path]
) -> None:
    for name in ("small_kl-bbbbbbbb", "small_kl-cccccccc"):
        recipe(made, name)
    student = trio()
    assert gather([student]).weak == {}
    recipe(made, LONGER, steps=20)
    better = made.write(LONGER, 85)  # IoU 85 / 115
    comparison = gather([student, better])
    assert comparison.weak == {"small_kl-cccccccc": "longer reached 73.9 %"}
    line = "weak baseline †: longer reached 73.9 % with the same network, data and size (student)"
    assert line in answer.warnings(comparison)
    header, rows = tables.summary_rows(comparison)
    cells = [row[header.index("vs baseline")] for row in rows]
    assert [cell.endswith(" †") for cell in cells] == [False, False, False, True]


@pytest.mark.parametrize("changed", [{"size": 96}, {"count": 8}])
def test_a_better_network_on_other_data_or_at_another_size_is_no_baseline(
    made: Any, trio: Callable[..., Path], changed: dict[str, int]
) -> None:
    for name in ("small_kl-bbbbbbbb", "small_kl-cccccccc"):
        recipe(made, name)
    recipe(made, LONGER, **changed)
    assert gather([trio(), made.write(LONGER, 85)]).weak == {}


def test_a_worse_one_and_one_that_is_as_good_mark_nothing(made: Any, trio: Callable[..., Path]) -> None:
    for name in ("small_kl-bbbbbbbb", "small_kl-cccccccc", LONGER):
        recipe(made, name)
    assert gather([trio(), made.write(LONGER, 80)]).weak == {}
