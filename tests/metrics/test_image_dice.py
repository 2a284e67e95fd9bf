"""Dice of each image: by hand, and against MONAI's values (tests/oracles)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from one_hot import one_hot

from kd.metrics import ImageDice

MONAI = Path(__file__).resolve().parents[1] / "oracles" / "met_surfaces_monai.npz"


def scored(pairs, classes):
    metric = ImageDice(classes)
    for labels, predictions in pairs:
        metric.update(labels, one_hot(predictions, classes))
    return metric.value(metric.state())


def test_a_small_object_counts_as_much_as_a_large_one():
    large, small, nothing = (torch.zeros(6, 6, dtype=torch.int64) for _ in range(3))
    large[:4], small[0, 0] = 1, 1
    found = torch.zeros(6, 6, dtype=torch.int64)
    found[:2] = 1
    # Dice of the large one: 2 · 12 / (24 + 12); the small one is missed; an image without the class is left out
    assert scored([(large, found), (small, nothing), (nothing, nothing)], 2) == {
        "dice": (2 / 3 + 0) / 2,
        "class 1": (2 / 3 + 0) / 2,
    }


def test_without_foreground_nothing_is_defined():
    nothing = torch.zeros(4, 4, dtype=torch.int64)
    assert scored([(nothing, nothing)], 3) == {"dice": None, "class 1": None, "class 2": None}


def test_equal_to_monai_on_random_objects():
    with np.load(MONAI) as file:
        labels, predictions = (torch.tensor(file[name]).long() for name in ("in_target", "in_predictions"))
        expected = file["dice"]
    for of_image, found, dice in zip(labels, predictions, expected, strict=True):
        values = scored([(of_image, found)], 3)
        for number in (1, 2):
            occurs = bool(((of_image == number) | (found == number)).any())
            assert values[f"class {number}"] == (pytest.approx(dice[number - 1]) if occurs else None)
