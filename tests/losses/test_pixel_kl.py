import math

import numpy as np
import pytest
import torch

from kd.losses import PixelKL


def softmax(values: list[float]) -> np.ndarray:
    powers = np.exp(values)
    return powers / powers.sum()


def test_two_pixels_by_hand() -> None:
    # Pixel 0: probabilities 3/4, 1/4 against 1/2, 1/2; pixel 1: equal. At T = 1 logits are log-probabilities.
    teacher = torch.tensor([[math.log(0.75), 0.0], [math.log(0.25), 0.0]]).view(1, 2, 1, 2)
    by_hand = (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    assert PixelKL()(torch.zeros(1, 2, 1, 2), teacher, None).item() == pytest.approx(by_hand)


def test_formula_with_temperature_and_ignored_pixel() -> None:
    random = np.random.default_rng(3)
    student, teacher = random.normal(size=(2, 2, 3, 2, 2))  # N = 2, K = 3, 2 × 2 pixels
    labels = np.array([[[0, 255], [1, 2]], [[2, 2], [255, 255]]])
    terms = []
    for n, i, j in zip(*np.nonzero(labels != 255), strict=True):
        t, s = softmax(teacher[n, :, i, j] / 2.5), softmax(student[n, :, i, j] / 2.5)
        terms.append(2.5**2 * np.sum(t * np.log(t / s)))
    assert len(terms) == 5
    ours = PixelKL(temperature=2.5)(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(terms), rel=1e-12)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature is {temperature}; it must be above 0"):
        PixelKL(temperature)


def test_skd_has_no_temperature() -> None:
    with pytest.raises(ValueError, match=r"convention 'skd' has no temperature, but temperature is 4\.0; leave it out"):
        PixelKL(4.0, convention="skd")


def test_skd_is_the_default_value_and_the_teachers_entropy_times_the_batch() -> None:
    student, teacher = torch.randn(2, 3, 4, 5, 6).double()
    entropy = -(teacher.softmax(1) * teacher.log_softmax(1)).sum(1).mean()
    default = PixelKL()(student, teacher)
    torch.testing.assert_close(PixelKL(convention="skd")(student, teacher), 3 * (default + entropy))


@pytest.mark.parametrize("convention", ["default", "skd"])
def test_parts_give_the_whole(monkeypatch: pytest.MonkeyPatch, convention: str) -> None:
    """Large maps are compared a few images at a time, with the same value and gradient as all at once."""
    student, teacher = torch.randn(5, 3, 4, 6, requires_grad=True), torch.randn(5, 3, 4, 6)
    labels = torch.randint(0, 3, (5, 4, 6))
    labels[1] = labels[:, 0] = 255
    loss = PixelKL(convention=convention)
    whole = loss(student, teacher, labels)
    monkeypatch.setattr("kd.losses.response.pixel_kl.PART", 2 * 3 * 4 * 6)  # parts of two, two and one images
    parts = loss(student, teacher, labels)
    assert torch.equal(parts, whole)
    assert torch.equal(*(torch.autograd.grad(loss, student)[0] for loss in (parts, whole)))
