import numpy as np
import pytest
import torch

from kd.losses import MSE


def test_formula_with_ignored_pixels() -> None:
    random = np.random.default_rng(6)
    student, teacher = random.normal(size=(2, 2, 3, 2, 2))
    labels = np.array([[[0, 255], [1, 2]], [[2, 2], [255, 255]]])
    differences = [
        (student[n, c, i, j] - teacher[n, c, i, j]) ** 2
        for n, i, j in zip(*np.nonzero(labels != 255), strict=True)
        for c in range(3)
    ]
    assert len(differences) == 15
    ours = MSE()(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(differences), rel=1e-12)
