import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kd.types import (
    IGNORE,
    Network,
    NetworkTraits,
    Tap,
    as_classes,
    as_tuple,
    resize,
    resize_bands,
    resize_labels,
    traits,
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((8, 8), (16, 16)),
        ((7, 9), (13, 31)),
        ((32, 32), (8, 8)),
        ((31, 45), (7, 12)),
        ((6, 40), (12, 10)),  # grows in one direction, shrinks in the other
        ((5, 5), (1, 1)),
        ((1, 3), (4, 3)),
    ],
)
def test_resize_equals_interpolate(before: tuple[int, int], after: tuple[int, int]) -> None:
    maps = torch.rand(2, 3, *before, dtype=torch.float64)
    expected = F.interpolate(maps, after, mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(resize(maps, after), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(resize(maps.float(), after), expected.float(), rtol=0, atol=1e-6)


def test_resize_that_only_grows_equals_plain_bilinear() -> None:
    maps = torch.rand(2, 3, 5, 7)
    expected = F.interpolate(maps, (20, 11), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(maps, (20, 11)), expected, rtol=0, atol=1e-6)


def test_resize_has_the_gradient_of_interpolate() -> None:
    maps = torch.rand(1, 2, 9, 11, dtype=torch.float64, requires_grad=True)
    share = torch.rand(1, 2, 4, 30, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((resize(maps, (4, 30)) * share).sum(), maps)
    reference = F.interpolate(maps, (4, 30), mode="bilinear", align_corners=False, antialias=True)
    (expected,) = torch.autograd.grad((reference * share).sum(), maps)
    torch.testing.assert_close(gradient, expected)


@settings(deadline=None, max_examples=50)
@given(st.tuples(*[st.integers(2, 40)] * 4))
def test_resize_of_any_size(sizes: tuple[int, int, int, int]) -> None:
    maps = torch.rand(1, 1, *sizes[:2], dtype=torch.float64)
    expected = F.interpolate(maps, sizes[2:], mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(resize(maps, sizes[2:]), expected, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.integers(1, 50))
def test_bands_are_the_resized_maps_from_top_to_bottom(sizes: tuple[int, int, int, int], rows: int) -> None:
    maps = torch.rand(2, 3, *sizes[:2], dtype=torch.float64)
    bands = list(resize_bands(maps, sizes[2:], rows))
    assert [band.shape[2] for band in bands[:-1]] == [rows] * (len(bands) - 1)
    torch.testing.assert_close(torch.cat(bands, 2), resize(maps, sizes[2:]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 3, 11])
def test_resize_of_a_map_one_column_wide(rows: int) -> None:
    """There, torch's antialiased CPU kernel repeats the first row, so the reference has two equal columns."""
    maps = torch.rand(1, 2, 5, 1, dtype=torch.float64)
    expected = F.interpolate(maps.expand(-1, -1, -1, 2), (rows, 2), mode="bilinear", antialias=True)[..., :1]
    torch.testing.assert_close(resize(maps, (rows, 1)), expected, rtol=0, atol=1e-12)


def test_resize_to_the_same_size_is_the_map_itself() -> None:
    maps = torch.rand(1, 2, 5, 5)
    assert resize(maps, (5, 5)) is maps


def test_resize_computes_half_types_in_float32_under_autocast_too() -> None:
    maps = torch.rand(1, 2, 4, 4)
    assert resize(maps.bfloat16(), (8, 8)).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(resize(maps, (9, 9)), resize(maps.double(), (9, 9)).float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (64, 80), (31, 1)])
def test_resize_labels_is_nearest_exact(size: tuple[int, int]) -> None:
    labels = torch.randint(0, 5, (2, 32, 40))
    labels[:, :3] = IGNORE
    expected = F.interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0].long()
    assert torch.equal(resize_labels(labels, size), expected)


def test_one_logit_becomes_two_with_the_same_probability() -> None:
    logit, labels = torch.randn(2, 1, 4, 5), torch.randint(0, 2, (2, 4, 5))
    two = as_classes(logit)
    torch.testing.assert_close(two.softmax(1)[:, 1], logit.sigmoid()[:, 0])
    torch.testing.assert_close(
        F.cross_entropy(two, labels), F.binary_cross_entropy_with_logits(logit[:, 0], labels.float())
    )
    assert torch.equal(two.argmax(1) == 1, logit[:, 0].sigmoid() > 0.5)


def test_several_logits_stay_as_they_are() -> None:
    logits = torch.randn(1, 2, 3, 3)
    assert as_classes(logits) is logits


def test_a_network_is_recognised_by_its_attributes() -> None:
    module = nn.Conv2d(3, 2, 1)
    assert not isinstance(module, Network)
    module.taps, module.num_classes, module.in_channels = {"low": Tap(2, 1)}, 2, 3
    assert isinstance(module, Network)


def test_traits_are_the_declared_ones_or_the_defaults() -> None:
    module = nn.Conv2d(3, 2, 1)
    assert traits(module) == NetworkTraits(shift_free=False, known_classes=(), class_names=None)
    module.traits = {"shift_free": True}  # an attribute that only has the same name
    assert traits(module) == NetworkTraits()
    module.traits = NetworkTraits(known_classes=(1,))
    assert traits(module).known_classes == (1,)


def test_as_tuple() -> None:
    maps = torch.rand(1, 2, 3, 3)
    assert as_tuple("low") == ("low",)
    assert as_tuple(("low", "mid")) == ("low", "mid")
    assert as_tuple(maps) == (maps,)
