import math

import numpy as np
import pytest
import torch

from kd.losses import SRD


def formula(student: np.ndarray, teacher: np.ndarray, seen: np.ndarray, exponent: float) -> np.ndarray:
    """Σ_c |z(student) - z(teacher)|^p at each valid pixel."""
    total = np.zeros(seen.sum())
    for c in range(student.shape[1]):
        z = [(maps[:, c][seen] - maps[:, c][seen].mean()) / maps[:, c][seen].std() for maps in (student, teacher)]
        total += np.abs(z[0] - z[1]) ** exponent
    return total


@pytest.mark.parametrize("exponent", [1.0, 2.5, 4.0])
def test_formula_with_ignored_pixels(exponent: float) -> None:
    random = np.random.default_rng(5)
    student, teacher = random.normal(size=(2, 2, 3, 2, 4))
    labels = random.integers(0, 3, size=(2, 2, 4))
    labels[0, 1] = labels[1, 0, 2] = 255
    power = formula(student, teacher, labels != 255, exponent)
    maps = [torch.from_numpy(a) for a in (student, teacher, labels)]
    assert SRD(exponent)(*maps).item() == pytest.approx(math.log(1 + power.mean()), rel=1e-5)
    assert SRD(exponent, "srd")(*maps).item() == pytest.approx(math.log(power.sum()), rel=1e-5)


def test_default_is_the_paper_up_to_a_constant_far_from_the_target() -> None:
    student = torch.randn(2, 64, 4, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 64, 4, 4, dtype=torch.float64)
    gradients = []
    for convention, constant in (("default", 0.0), ("srd", math.log(2 * 4 * 4))):
        result = SRD(convention=convention)(student, teacher)
        assert result.item() - constant == pytest.approx(SRD()(student, teacher).item(), rel=1e-3)
        gradients.append(torch.autograd.grad(result, student)[0])
    torch.testing.assert_close(*gradients, rtol=5e-3, atol=1e-8)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match=r"exponent is 0\.5; it must be >= 1"):
        SRD(0.5)
    with pytest.raises(ValueError, match="convention 'paper' is unknown; known: default, srd"):
        SRD(convention="paper")
