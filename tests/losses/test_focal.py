import math

import numpy as np
import pytest
import torch

from kd.losses import CrossEntropy, Focal


def test_two_pixels_by_hand() -> None:
    # Probabilities 3/4 and 1/4 for the labels, 0 and 1.
    logits = torch.tensor([[math.log(3.0), math.log(3.0)], [0.0, 0.0]]).view(1, 2, 1, 2)
    labels = torch.tensor([0, 1]).view(1, 1, 2)
    first, second = (1 / 4) ** 2 * -math.log(3 / 4), (3 / 4) ** 2 * -math.log(1 / 4)
    assert Focal()(logits, labels).item() == pytest.approx((first + second) / 2)
    assert Focal(alpha=0.25)(logits, labels).item() == pytest.approx(0.25 * (first + second) / 2)
    assert Focal(alpha=[0.5, 2])(logits, labels).item() == pytest.approx((0.5 * first + 2 * second) / 2)
    assert Focal(weight=[1, 3])(logits, labels).item() == pytest.approx((first + 3 * second) / 4)
    assert Focal(convention="monai")(logits, labels).item() == pytest.approx((first + second) / 4)


def test_monai_weighs_by_factors_that_are_not_divided_out_and_by_alpha_for_the_foreground() -> None:
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.arange(16).view(1, 4, 4) % 3
    labels[0, 3] = 255
    valid = labels[0, :3].flatten()
    p = logits.softmax(1)[0, :, :3].flatten(1).gather(0, valid[None])[0]  # of each valid pixel's label
    values = (1 - p) ** 2 * -p.log()

    def expected(*factors: float) -> float:
        return (torch.tensor(factors)[valid] * values).mean().item() / 3

    assert Focal(weight=[1, 2, 3], convention="monai")(logits, labels).item() == pytest.approx(expected(1, 2, 3))
    assert Focal(alpha=0.25, convention="monai")(logits, labels).item() == pytest.approx(expected(0.75, 0.25, 0.25))
    assert Focal(alpha=[1, 2, 3], convention="monai")(logits, labels).item() == pytest.approx(expected(1, 2, 3))
    ignored = torch.full_like(labels, 255)
    assert Focal(weight=[1, 2, 3], convention="monai")(logits, ignored).item() == 0


def test_formula_with_ignored_pixels() -> None:
    random = np.random.default_rng(7)
    logits = random.normal(size=(2, 3, 2, 2))
    labels = np.array([[[0, 255], [1, 2]], [[2, 2], [255, 255]]])
    values, sigmoids = [], []
    for n, i, j in zip(*np.nonzero(labels != 255), strict=True):
        row, y = logits[n, :, i, j], labels[n, i, j]
        p = np.exp(row[y]) / np.exp(row).sum()
        values.append((1 - p) ** 1.5 * -np.log(p))
        for c in range(3):
            q = 1 / (1 + np.exp(-row[c]))
            right, alpha = (q, 0.25) if c == y else (1 - q, 0.75)
            sigmoids.append(alpha * (1 - right) ** 1.5 * -np.log(right))
    maps = torch.from_numpy(logits), torch.from_numpy(labels)
    assert Focal(1.5)(*maps).item() == pytest.approx(np.mean(values), rel=1e-12)
    assert Focal(1.5, 0.25, convention="smp")(*maps).item() == pytest.approx(np.mean(sigmoids), rel=1e-12)
    assert Focal(1.5, 0.25, convention="torchvision")(*maps).item() == pytest.approx(np.mean(sigmoids), rel=1e-12)


def test_gamma_zero_is_cross_entropy() -> None:
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    labels[0, 0] = 255
    torch.testing.assert_close(Focal(0.0)(logits, labels), CrossEntropy()(logits, labels))
    weight = [0.2, 1.0, 3.0]
    torch.testing.assert_close(Focal(0.0, weight=weight)(logits, labels), CrossEntropy(weight)(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("convention", ["default", "smp"])
@pytest.mark.parametrize("size", [1e-4, 10.0, 60.0, 1e4])
def test_gradient_is_finite_where_the_network_is_certain(gamma: float, convention: str, size: float) -> None:
    labels = torch.randint(0, 3, (1, 4, 4))
    for sign in (1, -1):
        logits = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).mul(sign * size).requires_grad_()
        result = Focal(gamma, convention=convention)(logits, labels)
        result.backward()
        assert result.isfinite()
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1}, "gamma is -1; it must be at least 0"),
        ({"alpha": -0.5}, "alpha is -0.5; it must be >= 0"),
        ({"alpha": [1.0, -0.5]}, "alpha is [1.0, -0.5]; it must be >= 0"),
        ({"alpha": [1.0, math.nan]}, "alpha is [1.0, nan]; it must be >= 0"),
        ({"weight": [1.0, -0.5]}, "weight is [1.0, -0.5]; every factor must be >= 0"),
        ({"alpha": 1.5, "convention": "smp"}, "alpha is 1.5; under convention 'smp' it must be one number in [0, 1]"),
        ({"alpha": 2, "convention": "monai"}, "alpha is 2; under convention 'monai' it must be one number in [0, 1]"),
        ({"weight": [1, 1], "convention": "smp"}, "convention 'smp' has no class weights; leave out weight"),
        (
            {"convention": "kornia"},
            "convention 'kornia' is unknown; known: default, monai, smp, smp-normalized, torchvision",
        ),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole text is compared below
        Focal(**options)
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["alpha", "weight"])
def test_one_factor_per_class(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has 2 values, the logits 3 classes"):
        Focal(**{name: [1.0, 2.0]})(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long))
