import numpy as np
import pytest
import torch

from kd.losses import IFVD


def test_two_pixels_by_hand() -> None:
    # One class. Student: both pixels are (1, 0) and equal their mean.
    # Teacher: (1, 0) and (0, 1), each 45° from the mean.
    student = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    labels = torch.tensor([[[3, 3]]])
    assert IFVD()(student, teacher, labels).item() == pytest.approx((1 - 0.5**0.5) ** 2)
    assert IFVD()(student, teacher, None).item() == pytest.approx((1 - 0.5**0.5) ** 2)
    # Two classes of one pixel: every pixel equals the mean of its class, nothing varies.
    assert IFVD()(student, teacher, torch.tensor([[[3, 4]]])).item() == pytest.approx(0, abs=1e-12)


def test_formula_with_classes_and_ignored_pixels() -> None:
    random = np.random.default_rng(6)
    student, teacher = random.normal(size=(2, 3, 4, 5)), random.normal(size=(2, 5, 4, 5))
    labels = random.choice([0, 1, 7, 254, 255], size=(2, 4, 5))
    differences = []
    for n in (0, 1):
        for y, x in zip(*np.nonzero(labels[n] != 255), strict=True):
            cosines = []
            for maps in (student[n], teacher[n]):
                mean = maps[:, labels[n] == labels[n, y, x]].mean(1)
                pixel = maps[:, y, x]
                cosines.append(pixel @ mean / np.linalg.norm(pixel) / np.linalg.norm(mean))
            differences.append((cosines[0] - cosines[1]) ** 2)
    arguments = [torch.from_numpy(a) for a in (student, teacher, labels)]
    assert IFVD()(*arguments).item() == pytest.approx(np.mean(differences), rel=1e-12)
    assert IFVD("ifvd")(*arguments).item() == pytest.approx(np.sum(differences) / labels.size, rel=1e-12)
    assert IFVD("cirkd")(*arguments).item() == IFVD("ifvd")(*arguments).item()
