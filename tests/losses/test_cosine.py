import math

import numpy as np
import pytest
import torch

from kd.losses import Cosine


def test_sixty_degrees_by_hand() -> None:
    student = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    teacher = 7 * torch.tensor([math.cos(math.pi / 3), math.sin(math.pi / 3)]).view(1, 2, 1, 1)
    assert Cosine()(student, teacher, None).item() == pytest.approx(0.5)


def test_formula_with_ignored_pixels() -> None:
    random = np.random.default_rng(2)
    student, teacher = random.normal(size=(2, 2, 3, 2, 2))
    labels = np.array([[[0, 255], [1, 1]], [[255, 255], [2, 0]]])
    values = []
    for n, i, j in zip(*np.nonzero(labels != 255), strict=True):
        s, t = student[n, :, i, j], teacher[n, :, i, j]
        values.append(1 - s @ t / np.sqrt(s @ s * (t @ t)))
    ours = Cosine()(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(values), rel=1e-12)


def test_the_length_changes_nothing() -> None:
    maps = torch.randn(2, 3, 4, 5)
    assert Cosine()(maps * torch.rand(2, 1, 4, 5).add(0.1), maps).item() == pytest.approx(0, abs=1e-6)


def test_zero_vectors_have_no_direction() -> None:
    # Pixel 0: the teacher's vector is zero, left out. Pixel 1: the student's is zero, value 1 without a gradient.
    teacher = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 0.0]]).view(1, 2, 1, 3)
    student = torch.tensor([[5.0, 0.0, 3.0], [1.0, 0.0, 0.0]]).view(1, 2, 1, 3).requires_grad_()
    result = Cosine()(student, teacher, None)
    result.backward()
    assert result.item() == pytest.approx((1 + 0) / 2)
    assert student.grad.isfinite().all()
    assert not student.grad[..., :2].any()


def test_a_vector_too_short_for_a_direction_is_left_out() -> None:
    teacher = torch.tensor([[1e-13, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    assert Cosine()(teacher, teacher, None).item() == pytest.approx(0)
