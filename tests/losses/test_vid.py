import math

import numpy as np
import pytest
import torch

from kd.losses import VID


def test_likelihood_by_hand() -> None:
    # One pixel, two channels: errors 1 and 3 under a variance of 2.
    student, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    by_hand = ((1 / 2 + math.log(2)) / 2 + (9 / 2 + math.log(2)) / 2) / 2
    assert VID(channels=2, variance=2.0)(student, teacher, None).item() == pytest.approx(by_hand, rel=1e-5)


def test_normal_density_with_ignored_pixels() -> None:
    random = np.random.default_rng(8)
    student, teacher = random.normal(size=(2, 2, 3, 2, 2))
    labels = np.array([[[0, 255], [1, 1]], [[255, 255], [2, 0]]])
    loss = VID(3).double()
    with torch.no_grad():
        loss.raw_variance.copy_(torch.tensor([-1.0, 0.0, 2.0]))
    variance = np.log1p(np.exp([-1.0, 0.0, 2.0])) + 1e-5
    values = []
    for n, i, j in zip(*np.nonzero(labels != 255), strict=True):
        difference = teacher[n, :, i, j] - student[n, :, i, j]
        density = np.exp(-(difference**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        values.append(np.mean(-np.log(density)) - math.log(2 * math.pi) / 2)
    ours = loss(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(values), rel=1e-9)


@pytest.mark.parametrize("variance", [1e-3, 5.0, 100.0])
def test_starts_at_the_given_variance(variance: float) -> None:
    maps = torch.zeros(1, 4, 2, 2)
    assert VID(4, variance)(maps, maps).item() == pytest.approx(math.log(variance) / 2, rel=1e-4)


def test_best_variance_is_the_mean_squared_error() -> None:
    random = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64)
    teacher = torch.randn(1, 2, 9, 9, generator=random, dtype=torch.float64) * scale[:, None, None]
    loss = VID(2).double()
    with torch.no_grad():
        loss.raw_variance.copy_((teacher.square().mean((0, 2, 3)) - 1e-5).expm1().log())  # inverse of softplus
    loss(torch.zeros_like(teacher), teacher).backward()
    assert loss.raw_variance.grad.abs().max() < 1e-12


def test_bad_options_and_other_channels() -> None:
    with pytest.raises(ValueError, match="channels is 0; it must be at least 1"):
        VID(0)
    with pytest.raises(ValueError, match=r"variance is 0\.0; it must be above 1e-05"):
        VID(3, 0.0)
    with pytest.raises(ValueError, match=r"maps \(1, 4, 2, 2\): the loss was built for 3 channels"):
        VID(3)(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))


def test_channels_of_several_taps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^channels \(8, 16\) are those of 2 taps; name one tap per term$"):
        VID((8, 16))
