"""The settings that images and masks lead to, each with its reason."""

import pytest

from kd.prepare.choose import choose
from kd.prepare.look import Look


def look(
    sizes: list[tuple[int, int]], *, train: int = 400, shares: tuple[float, ...] = (0.6, 0.4), grey: bool = False
) -> Look:
    names = tuple(f"n{number}" for number in range(len(shares)))
    return Look({"train": train, "val": 9}, sizes, grey, names, shares, [])


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ([(360, 480)], [352, 480]),  # 360 / 16 = 22.5, to the even neighbour
        ([(1080, 1920)], [288, 512]),
        ([(3000, 2000)], [512, 336]),
        ([(48, 64)], [64, 80]),  # at least 64
        ([(20, 4000)], [64, 512]),  # the longer side decides
        ([(100, 200), (300, 400), (500, 512)], [304, 400]),  # medians
    ],
)
def test_size_is_the_median_within_limits(sizes: list[tuple[int, int]], size: list[int]) -> None:
    assert choose(look(sizes), gpu=False).size.value == size


@pytest.mark.parametrize(
    ("train", "batch", "epochs"), [(400, 8, 60), (5, 4, 300), (3, 2, 300), (1, 1, 300), (100_000, 8, 20)]
)
def test_batch_and_epochs_make_about_3000_steps(train: int, batch: int, epochs: int) -> None:
    choices = choose(look([(64, 64)], train=train), gpu=False)
    assert (choices.batch.value, choices.epochs.value) == (batch, epochs)


def test_a_rare_class_is_weighted_and_named() -> None:
    choices = choose(look([(64, 64)], shares=(0.795, 0.2, 0.005, 0.0)), gpu=False)
    assert choices.supervised == (
        "{use: kd.losses.CrossEntropy, args: {weight: inverse_log}}", "n2: less than 1 % of the pixels",
    )  # fmt: skip
    assert choose(look([(64, 64)]), gpu=False).supervised.value == "{use: kd.losses.CrossEntropy}"


def test_few_images_in_colour_are_jittered_and_grey_ones_have_a_channel() -> None:
    def transforms(**arguments: object) -> list[str]:
        return [choice.value.split(",")[0] for choice in choose(look([(64, 64)], **arguments), gpu=False).augment]  # type: ignore[arg-type]

    assert transforms(train=400) == ["{use: kd.data.RandomScale", "{use: kd.data.RandomFlip}"]
    assert transforms(train=40)[-1] == "{use: kd.data.ColorJitter"
    assert len(transforms(train=40, grey=True)) == 2
    assert choose(look([(64, 64)], grey=True), gpu=False).channels.value == 1


def test_networks_are_smaller_without_a_gpu() -> None:
    with_gpu, without = (choose(look([(64, 64)]), gpu=gpu) for gpu in (True, False))
    assert with_gpu.student.value == "use: students.MobileNetV3SmallASPP"
    assert (without.student.value, "mobilenet_v2" in without.teacher.value) == (
        "use: students.MobileNetV3SmallASPPLite", True,
    )  # fmt: skip
