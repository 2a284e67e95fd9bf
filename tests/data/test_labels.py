import pytest
import torch

from kd.data.labels import check_labels
from kd.errors import DataError


def test_each_of_256_values_is_a_class_or_ignored_or_refused():
    for value in range(256):
        labels = torch.full((2, 3), value, dtype=torch.uint8)
        if value < 5 or value == 255:
            check_labels(labels, 5, "a")
        else:
            with pytest.raises(DataError) as error:
                check_labels(labels, 5, "a")
            assert str(error.value) == (
                f"a: label {value} (6 pixels) in no class, first at row 0, column 0; a dataset returns 0 … 4, and 255 "
                "for ignored pixels"
            )


def test_all_wrong_labels_are_listed():
    labels = torch.tensor([[0, 1, 7], [9, 7, 255]], dtype=torch.uint8)
    with pytest.raises(
        DataError, match=r"^a: labels 7 \(2 pixels\), 9 \(1 pixel\) in no class, first at row 0, column 2;"
    ):
        check_labels(labels, 2, "a")
