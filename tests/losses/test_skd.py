import numpy as np
import pytest
import torch

from kd.losses import SKD


def test_two_pixels_by_hand() -> None:
    # The teacher's two pixels are at right angles (cosine 0), the student's at 60° (cosine 1/2).
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    student = torch.tensor([[1.0, 0.5], [0.0, 3**0.5 / 2]]).view(1, 2, 1, 2)
    # Of the four pairs, two are of a pixel with itself and equal.
    assert SKD(pool=1)(student, teacher, None).item() == pytest.approx(2 * 0.5**2 / 4)
    assert SKD(convention="skd")(student, teacher, None).item() == pytest.approx(2 * 0.5**2 / 4)


def similarities(maps: np.ndarray, valid: np.ndarray, rows: int, columns: int) -> np.ndarray:
    nodes = []
    for y in range(0, maps.shape[1], rows):
        for x in range(0, maps.shape[2], columns):
            seen = valid[y : y + rows, x : x + columns]
            if seen.any():
                highest = maps[:, y : y + rows, x : x + columns][:, seen].max(1)
                nodes.append(highest / np.linalg.norm(highest))
    return np.array(nodes) @ np.array(nodes).T


@pytest.mark.parametrize(("loss", "rows", "columns"), [(SKD(), 2, 2), (SKD(pool=0.5), 2, 3), (SKD(pool=3), 3, 3)])
def test_formula_with_windows_and_ignored_pixels(loss: SKD, rows: int, columns: int) -> None:
    random = np.random.default_rng(2)
    student, teacher = random.normal(size=(2, 3, 5, 7)), random.normal(size=(2, 4, 5, 7))
    labels = np.zeros((2, 5, 7), dtype=np.int64)
    labels[0, :2, :3] = labels[0, 3, 3] = labels[1, 4] = 255
    images = []
    for n in (0, 1):
        s, t = (similarities(maps[n], labels[n] != 255, rows, columns) for maps in (student, teacher))
        images.append(np.mean((s - t) ** 2))
    ours = loss(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(images), rel=1e-12)


def test_two_losses_have_one_name() -> None:
    student, teacher = torch.randn(2, 1, 3, 8, 8)
    assert SKD(convention="cirkd")(student, teacher, None) != SKD(convention="skd")(student, teacher, None)


def test_the_authors_lengths_are_constants() -> None:
    # A change along the pixel's vector leaves the cosine, but changes the product with a constant length.
    student = torch.randn(1, 3, 1, 2, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(1, 3, 1, 2, dtype=torch.float64)
    for convention, change in (("default", False), ("skd", True)):
        (gradient,) = torch.autograd.grad(SKD(pool=1, convention=convention)(student, teacher, None), student)
        assert ((gradient * student).sum(1).abs().max() > 1e-3) == change


@pytest.mark.parametrize("pool", [0, -1, 1.5, float("nan"), float("inf")])
def test_pool_must_be_a_side_or_a_share(pool: float) -> None:
    with pytest.raises(ValueError, match=rf"pool is {pool}; it must be a side in pixels \(1, 2, ...\) or a share of"):
        SKD(pool)
