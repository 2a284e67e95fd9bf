import numpy as np
import pytest
import torch

from kd.data.labels import check_labels, pack, translate
from kd.errors import DataError


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64])
def test_every_integer_type_is_looked_up(kind):
    codes = np.array([[0, 7], [255, 7]], dtype=kind)
    labels = translate(codes, {0: 1, 7: 0, 255: 255}, "a.png")
    assert labels.dtype == torch.uint8
    assert labels.tolist() == [[1, 0], [255, 0]]


@pytest.mark.parametrize("kind", [np.uint8, np.int32])
def test_an_unknown_value_is_named_with_its_place(kind):
    codes = np.zeros((4, 6), dtype=kind)
    codes[1, 4:], codes[3, 2] = 11, 42
    with pytest.raises(DataError) as error:
        translate(codes, {value: value for value in range(11)} | {255: 255}, "masks/a.png")
    assert str(error.value) == (
        "masks/a.png: labels 11 (2 pixels), 42 (1 pixel) in no class (known: 0 … 10, ignored 255), first at row 1, "
        "column 4; set values: {11: ignore} or map it to a class there"
    )


def test_many_unknown_values_stay_one_line():
    codes = np.arange(200, dtype=np.uint8).reshape(10, 20)
    with pytest.raises(DataError) as error:
        translate(codes, {0: 0, 1: 1, 255: 255}, "a.png")
    assert str(error.value) == (
        "a.png: labels 2 (1 pixel), 3 (1 pixel), 4 (1 pixel), 5 (1 pixel), 6 (1 pixel) and 193 more in no class "
        "(known: 0, 1, ignored 255), first at row 0, column 2; set values: {2: ignore} or map it to a class there"
    )


def test_an_unknown_colour_is_named_with_the_nearest():
    pixels = np.zeros((3, 3, 3), dtype=np.uint8)
    pixels[2, 1] = (250, 1, 2)
    with pytest.raises(DataError) as error:
        translate(pack(pixels), {0: 0, 0xFF0000: 1, 0x00FF00: 2}, "a.png", colors=True)
    assert str(error.value) == (
        "a.png: colour (250, 1, 2) (1 pixel) in no class, first at row 2, column 1; the nearest colour in classes "
        "is (255, 0, 0); add the missing one there"
    )


def test_each_of_256_values_is_a_class_or_ignored_or_refused():
    for value in range(256):
        labels = torch.full((2, 3), value, dtype=torch.uint8)
        if value < 5 or value == 255:
            check_labels(labels, 5, "a")
        else:
            with pytest.raises(
                DataError, match=rf"^a: label {value} \(6 pixels\) in no class .* first at row 0, column 0"
            ):
                check_labels(labels, 5, "a")
