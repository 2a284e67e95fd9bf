import math

import numpy as np
import pytest
import torch

from kd.losses import DKD, PixelKL, _checks


def test_one_pixel_by_hand() -> None:
    # Label 0. Teacher: 1/2, 1/4, 1/4; student: 1/4, 1/2, 1/4.
    teacher, student = (torch.tensor(p).log().view(1, 3, 1, 1) for p in ([0.5, 0.25, 0.25], [0.25, 0.5, 0.25]))
    labels = torch.zeros(1, 1, 1, dtype=torch.long)
    target = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    non_target = 0.5 * math.log(0.5 / (2 / 3)) + 0.5 * math.log(0.5 / (1 / 3))
    ours = DKD(temperature=1.0, target=2.0, non_target=5.0)(student, teacher, labels)
    assert ours.item() == pytest.approx(2 * target + 5 * non_target, rel=1e-5)


def test_formula_with_temperature_and_ignored_pixels() -> None:
    random = np.random.default_rng(8)
    student, teacher = random.normal(size=(2, 2, 4, 2, 2))
    labels = np.array([[[0, 255], [1, 3]], [[2, 2], [255, 255]]])
    terms = []
    for n, i, j in zip(*np.nonzero(labels != 255), strict=True):
        y = labels[n, i, j]
        t, s = (np.exp(maps[n, :, i, j] / 3) / np.exp(maps[n, :, i, j] / 3).sum() for maps in (teacher, student))
        target = t[y] * np.log(t[y] / s[y]) + (1 - t[y]) * np.log((1 - t[y]) / (1 - s[y]))
        t, s = (np.delete(p, y) / (1 - p[y]) for p in (t, s))
        terms.append(9 * (1.5 * target + 4 * np.sum(t * np.log(t / s))))
    ours = DKD(3.0, target=1.5, non_target=4.0)(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(terms), rel=1e-12)


def test_the_parts_add_up_to_the_divergence() -> None:
    # KL = target part + (1 - p_y of the teacher) · non-target part, so a teacher with the same p_y everywhere gives KL.
    teacher = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().view(1, 4, 1, 1).expand(2, 4, 3, 3)
    student, labels = torch.randn(2, 4, 3, 3), torch.zeros(2, 3, 3, dtype=torch.long)
    torch.testing.assert_close(DKD(1.0, 1.0, 0.6)(student, teacher, labels), PixelKL()(student, teacher, labels))


def test_confident_and_wrong_stays_finite() -> None:
    student = torch.tensor([300.0, 0.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
    labels = torch.ones(1, 1, 1, dtype=torch.long)
    result = DKD(temperature=1.0)(student, torch.zeros(1, 3, 1, 1), labels)
    result.backward()
    assert result.isfinite()
    assert student.grad.isfinite().all()


def test_without_labels_the_teachers_class_replaces_them() -> None:
    student, teacher = torch.randn(2, 2, 4, 3, 3)
    torch.testing.assert_close(DKD()(student, teacher, None), DKD()(student, teacher, teacher.argmax(1)))


def test_two_classes_warn_once(recwarn: pytest.WarningsRecorder) -> None:
    _checks._warn.cache_clear()
    for _ in range(2):
        DKD()(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2), None)
    text = "with two classes DKD's non-target part carries no information; use PixelKL"
    assert [str(warning.message) for warning in recwarn] == [text]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"target": -1.0}, "target is -1.0; it must be at least 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DKD(**options)
