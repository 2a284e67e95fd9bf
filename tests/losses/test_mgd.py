import pytest
import torch

from kd.adapters import MaskedGenerator
from kd.losses import MGD


def test_value_by_hand() -> None:
    student = torch.tensor([[1.0, 2.0], [0.0, 4.0]]).view(1, 2, 1, 2)
    teacher = torch.tensor([[1.0, 0.0], [3.0, 1.0]]).view(1, 2, 1, 2)
    assert MGD()(student, teacher, None).item() == pytest.approx((0 + 4 + 9 + 9) / 4)
    first = torch.tensor([[[0, 255]]])
    assert MGD()(student, teacher, first).item() == pytest.approx((0 + 9) / 2)
    assert MGD("mgd")(student, teacher, first).item() == pytest.approx(2e-5 * (0 + 9))


def test_authors_weight_on_a_large_map() -> None:
    maps = torch.zeros(1, 2048, 45, 45)
    factor = MGD("mgd")(maps, maps + 1, None) / MGD()(maps, maps + 1, None)
    assert factor.item() == pytest.approx(83, rel=1e-3)


def test_gradient_reaches_generator_and_features() -> None:
    adapter, features = MaskedGenerator(3, 5), torch.randn(2, 3, 6, 6, requires_grad=True)
    MGD()(adapter(features), torch.randn(2, 5, 6, 6), None).backward()
    assert features.grad.any()
    assert all(parameter.grad.any() for parameter in adapter.parameters())
