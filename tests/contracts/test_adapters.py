"""The contract of adapters, for everything that `kd.adapters` exports."""

import pytest
import torch
from torch import nn

import kd.adapters

SAME_CHANNELS = {"Identity"}  # adapters that do not change the channel count


def build(name: str) -> tuple[nn.Module, int, int]:
    given, wanted = 6, 6 if name in SAME_CHANNELS else 10
    return getattr(kd.adapters, name)(given, wanted), given, wanted


everything = pytest.mark.parametrize("name", kd.adapters.__all__)


@everything
@pytest.mark.parametrize("size", [(1, 5, 7), (2, 4, 4)])
def test_maps_channels_and_keeps_size(name: str, size: tuple[int, int, int]) -> None:
    adapter, given, wanted = build(name)
    images, height, width = size
    assert adapter(torch.randn(images, given, height, width)).shape == (images, wanted, height, width)


@everything
def test_gradient_reaches_input_and_every_parameter(name: str) -> None:
    adapter, given, _ = build(name)
    features = torch.randn(2, given, 5, 7, requires_grad=True)
    adapter(features).square().sum().backward()
    for tensor in (features, *adapter.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


@everything
def test_state_survives_the_round_trip(name: str) -> None:
    adapter, given, _ = build(name)
    features = torch.randn(2, given, 5, 7)
    adapter(features)  # changes the running statistics
    other, _, _ = build(name)
    other.load_state_dict(adapter.state_dict())
    torch.testing.assert_close(other.eval()(features), adapter.eval()(features), rtol=0, atol=0)


@everything
def test_runs_under_autocast(name: str) -> None:
    adapter, given, _ = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        result = adapter(torch.randn(1, given, 3, 3))
    assert result.isfinite().all()
    assert all(parameter.dtype == torch.float32 for parameter in adapter.parameters())


@everything
def test_channels_last_changes_nothing(name: str) -> None:
    adapter, given, _ = build(name)
    features = torch.randn(2, given, 5, 7)
    last = features.to(memory_format=torch.channels_last)
    torch.testing.assert_close(adapter.eval()(last), adapter(features))


def test_index_is_sorted() -> None:
    # Acronyms first, as ruff sorts `__all__`.
    assert kd.adapters.__all__ == sorted(kd.adapters.__all__, key=lambda name: (not name.isupper(), name))
