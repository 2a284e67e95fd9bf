import numpy as np
import pytest
import torch

from kd.losses import NFD


def test_one_minus_pearson_over_valid_pixels() -> None:
    random = np.random.default_rng(3)
    student, teacher = random.normal(size=(2, 2, 3, 2, 4))
    labels = random.integers(0, 3, size=(2, 2, 4))
    labels[0, 1] = labels[1, 0, 2] = 255
    seen = labels != 255
    values = [1 - np.corrcoef(student[:, c][seen], teacher[:, c][seen])[0, 1] for c in range(3)]
    ours = NFD()(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(values), rel=1e-5)  # 10⁻⁶ is added to each deviation


def test_mean_and_scale_of_a_channel_change_nothing() -> None:
    maps = torch.randn(2, 3, 4, 5)
    scale, shift = torch.tensor([5.0, 0.2, 1.0])[:, None, None], torch.tensor([3.0, -1.0, 9.0])[:, None, None]
    assert NFD()(maps * scale + shift, maps).item() == pytest.approx(0, abs=1e-6)


def test_opposite_pattern_is_the_maximum() -> None:
    maps = torch.randn(2, 3, 4, 5)
    assert NFD()(-maps, maps).item() == pytest.approx(2, rel=1e-5)


def test_constant_channel_has_a_finite_gradient() -> None:
    student = torch.full((1, 2, 3, 3), 4.0, requires_grad=True)
    NFD()(student, torch.randn(1, 2, 3, 3)).backward()
    assert student.grad.isfinite().all()
