"""HD95 and ASSD: by hand, against MONAI's values (tests/oracles), and what empty masks mean."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from one_hot import one_hot

from kd.metrics import HausdorffDistance, SurfaceDistance

MONAI = Path(__file__).resolve().parents[1] / "oracles" / "met_surfaces_monai.npz"


def scored(kind, labels, predictions, classes=2, **args):
    metric = kind(classes, **args)
    metric.update(labels, one_hot(predictions, classes))
    return metric.value(metric.state())


@pytest.fixture
def shifted():
    """A 3 × 3 square in the labels; in the prediction it is two columns further to the right."""
    labels, predictions = torch.zeros(2, 8, 8, dtype=torch.int64)
    labels[1:4, 1:4] = 1
    predictions[1:4, 3:6] = 1
    return labels, predictions


def test_a_shifted_square_by_hand(shifted):
    # Surfaces: the eight outer pixels of each. Of the prediction's, the three in column 3 are on the labels' surface,
    # the two in column 4 are 1 away, the three in column 5 are 2 away; back the same.
    assert scored(SurfaceDistance, *shifted) == {"distance": 8 / 8, "class 1": 8 / 8, "missed": 0.0}
    assert scored(HausdorffDistance, *shifted, percentile=100)["distance"] == 2.0
    assert scored(HausdorffDistance, *shifted)["distance"] == 2.0  # the 95th percentile of 0 0 0 1 1 2 2 2
    assert scored(HausdorffDistance, *shifted, percentile=50)["distance"] == 1.0


def test_spacing_turns_pixels_into_millimetres(shifted):
    values = scored(SurfaceDistance, *shifted, spacing=[3.0, 0.5], unit="mm")
    assert values["distance"] == 0.5
    assert SurfaceDistance(2, 0.5, "mm").unit == "mm"


def test_an_object_that_only_one_side_has_is_missed_and_none_is_left_out(shifted):
    labels, nothing = shifted[0], torch.zeros(8, 8, dtype=torch.int64)
    assert scored(SurfaceDistance, labels, nothing) == {"distance": None, "class 1": None, "missed": 1.0}
    assert scored(HausdorffDistance, nothing, labels) == {"distance": None, "class 1": None, "missed": 1.0}
    assert scored(SurfaceDistance, nothing, nothing) == {"distance": None, "class 1": None, "missed": None}


@pytest.mark.parametrize("kind", [HausdorffDistance, SurfaceDistance])
def test_equal_to_monai_on_random_objects(kind):
    with np.load(MONAI) as file:
        labels, predictions = (torch.tensor(file[name]).long() for name in ("in_target", "in_predictions"))
        expected = file["hd95" if kind is HausdorffDistance else "assd"]
    compared = 0
    for index, (of_image, found) in enumerate(zip(labels, predictions, strict=True)):
        spacing = (1.5, 0.5) if index % 2 else 1.0
        values = scored(kind, of_image, found, 3, spacing=spacing)
        for number in (1, 2):
            if math.isfinite(expected[index, number - 1]):
                assert values[f"class {number}"] == pytest.approx(expected[index, number - 1], rel=1e-5)
                compared += 1
            else:
                assert values[f"class {number}"] is None
    assert compared > 300


@pytest.mark.parametrize("spacing", [0, -1.0, [1.0, 0.0], [1.0, math.nan]])
def test_a_spacing_that_is_no_length_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing must be above 0, got"):
        SurfaceDistance(2, spacing)


def test_a_percentile_out_of_range_is_refused():
    with pytest.raises(ValueError, match="percentile must be above 0 and at most 100, got 0"):
        HausdorffDistance(2, percentile=0)


@pytest.mark.parametrize("kind", [HausdorffDistance, SurfaceDistance])
def test_the_size_of_a_pixel_comes_from_the_dataset_where_the_recipe_gives_none(kind, shifted):
    labels, predictions = shifted[0], one_hot(shifted[1], 2)
    of_data, given, in_pixels, unknown = kind(2), kind(2, 2.0), kind(2, unit="px"), kind(2)
    for spacing in ((3.0, 0.5), (3.0, 0.25)):  # the objects differ by columns only
        for metric in (of_data, given, in_pixels):
            metric.update(labels, predictions, spacing)
        unknown.update(labels, predictions, None)
    pixels = unknown.value(unknown.state())["distance"]
    values = {metric: (metric.value(metric.state())["distance"], metric.unit) for metric in (of_data, given, in_pixels)}
    assert values[of_data] == (pytest.approx(pixels * (0.5 + 0.25) / 2), "mm")
    assert values[given] == (pytest.approx(2 * pixels), "px")
    assert values[in_pixels] == (pixels, unknown.unit) == (pixels, "px")


@pytest.mark.parametrize("kind", [HausdorffDistance, SurfaceDistance])
def test_pixels_and_millimetres_are_not_added(kind, shifted):
    labels, predictions = shifted[0], one_hot(shifted[1], 2)
    known, unknown = kind(2), kind(2)  # of two processes
    known.update(labels, predictions, (0.5, 0.5))
    for _ in range(2):
        unknown.update(labels, predictions, None)
    total = {name: array + unknown.state()[name] for name, array in known.state().items()}
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole text is compared below
        known.value(total)
    assert str(error.value) == (
        "the dataset's spacing is None for 2 of 3 images, whose distances are in pixels and not in mm; "
        "state it for all, or give unit: px"
    )
    in_pixels = kind(2, unit="px")
    for spacing in ((0.5, 0.5), None):
        in_pixels.update(labels, predictions, spacing)
    assert in_pixels.value(in_pixels.state()) == unknown.value(unknown.state())
