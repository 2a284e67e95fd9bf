import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kd.losses import SKD, CIRKDMemory, CIRKDMiniBatch
from kd.losses._pixels import unit
from kd.losses.relation import _pairs
from kd.losses.relation._pairs import pooled, segment_means, shuffled


def test_unit_of_zeros_is_zero_and_gets_no_gradient() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    directions = unit(vectors, 1)
    assert directions.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    (gradient,) = torch.autograd.grad(directions.sum(), vectors)
    assert gradient[1].tolist() == [0, 0]


def test_pooled_is_the_mean_of_the_valid_pixels() -> None:
    maps = torch.tensor([[1.0, 3.0, 0.0], [5.0, 7.0, 0.0], [9.0, 0.0, 0.0]])[None, None]
    valid = maps[0] > 0
    means, seen = pooled(maps, valid, 2)
    assert means[0, 0].tolist() == [[4, 0], [9, 0]]
    assert seen[0].tolist() == [[True, False], [True, False]]


def test_segment_means() -> None:
    rows = torch.tensor([[1.0], [2.0], [10.0], [3.0]])
    means, counts = segment_means(rows, torch.tensor([0, 2, 0, 2]), 4)
    assert means.tolist() == [[5.5], [0], [2.5], [0]]
    assert counts.tolist() == [2, 0, 2, 0]


def test_shuffled_depends_only_on_the_draw_and_is_uniform() -> None:
    first, second = (shuffled(torch.tensor(draw), 10_000) for draw in (0, 1))
    assert torch.equal(first, shuffled(torch.tensor(0), 10_000))
    assert first.min() >= 0
    assert first.max() < 2**32
    for bits in (first, second):
        assert len(bits.unique()) > 9_990
        share = (bits >> 28).bincount(minlength=16) / 625  # 16 bins of equal width
        assert share.min() > 0.85
        assert share.max() < 1.15
    assert torch.corrcoef(torch.stack((first.double(), second.double())))[0, 1].abs() < 0.03


@dataclass(eq=False)
class Saved:
    """A tensor that autograd saved, as an object with weak references."""

    tensor: Tensor


def value_and_gradient(loss: torch.nn.Module) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(2, 2, 4, 6, 5, generator=random, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 6, 5), generator=random)
    labels[0, 2:4] = 255
    result = loss(student.requires_grad_(), teacher, labels)
    return result.detach(), torch.autograd.grad(result, student)[0]


@pytest.mark.parametrize(
    "make", [SKD, CIRKDMiniBatch, lambda: CIRKDMemory(3, 4, pixel_queue=9).double()], ids=["SKD", "batch", "memory"]
)
def test_tiles_change_nothing(make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = value_and_gradient(make())
    monkeypatch.setattr(_pairs, "TILE", 200)
    tiled = value_and_gradient(make())
    torch.testing.assert_close(tiled, whole, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("make", [lambda: SKD(pool=1), CIRKDMiniBatch], ids=["SKD", "batch"])
def test_no_tensor_holds_all_pairs(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autograd never saves a tensor larger than a map, and keeps only a few maps for the backward pass."""
    monkeypatch.setattr(_pairs, "TILE", 1024)
    student, teacher = torch.randn(2, 2, 3, 16, 16)
    largest = 0
    kept = weakref.WeakSet()

    def keep(tensor: Tensor) -> Saved:
        nonlocal largest
        largest = max(largest, tensor.numel())
        kept.add(saved := Saved(tensor))
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved.tensor):
        loss = make()(student.requires_grad_(), teacher, None)
    assert loss.requires_grad
    assert largest <= 2 * 3 * 16 * 16
    assert sum(saved.tensor.numel() for saved in kept) < 256**2


def test_tiles_without_a_gradient_give_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = torch.randn(2, 1, 3, 8, 8)
    whole = CIRKDMiniBatch()(student, teacher, None)
    monkeypatch.setattr(_pairs, "TILE", 256)
    torch.testing.assert_close(CIRKDMiniBatch()(student, teacher, None), whole)
    with torch.no_grad():
        torch.testing.assert_close(CIRKDMiniBatch()(student.requires_grad_(), teacher, None), whole)
