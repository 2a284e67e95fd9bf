import pytest
import torch

from kd.losses._pixels import at_least_float32, mean_over, near_boundary, pair, valid_pixels


def test_mean_over_uses_only_valid_values() -> None:
    values = torch.tensor([[1.0, 2.0], [6.0, float("inf")]])
    assert mean_over(values, torch.tensor([[True, False], [True, False]])) == 3.5


def test_precision() -> None:
    assert at_least_float32(torch.zeros(1, dtype=torch.float16)).dtype == torch.float32
    assert at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_float32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_pair_accepts_only_maps() -> None:
    with pytest.raises(ValueError, match=r"student \(2, 3\), teacher \(2, 3\): a loss compares maps \(N, C, h, w\)"):
        pair(torch.zeros(2, 3), torch.zeros(2, 3), None)


def test_labels_must_have_the_size_of_the_maps() -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole text is compared below
        valid_pixels(torch.zeros(1, 8, 8, dtype=torch.long), torch.zeros(1, 3, 4, 4))
    assert str(error.value) == "labels (1, 8, 8), maps (1, 3, 4, 4): labels must be (1, 4, 4)"


def test_near_boundary_by_hand() -> None:
    labels = torch.tensor([[0, 0, 1, 1, 255, 2], [0, 0, 1, 1, 255, 2], [0, 0, 0, 0, 255, 2]])[None]
    seen = ["011000", "011100", "011100"]
    assert near_boundary(labels, 1)[0].tolist() == [[c == "1" for c in row] for row in seen]
    wide = ["111101", "111101", "111101"]
    assert near_boundary(labels, 2)[0].tolist() == [[c == "1" for c in row] for row in wide]
