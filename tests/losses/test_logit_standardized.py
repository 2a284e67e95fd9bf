import numpy as np
import pytest
import torch

from kd.losses import DKD, MSE, LogitStandardized


def test_formula() -> None:
    random = np.random.default_rng(10)
    student, teacher = random.normal(size=(2, 1, 3, 2, 2))
    labels = np.array([[[0, 255], [1, 2]]])
    terms = []
    for n, i, j in zip(*np.nonzero(labels != 255), strict=True):
        pair = []
        for maps in (teacher, student):
            row = maps[n, :, i, j]
            powers = np.exp((row - row.mean()) / row.std(ddof=1) / 2)
            pair.append(powers / powers.sum())
        t, s = pair
        terms.append(4 * np.sum(t * np.log(t / s)))
    ours = LogitStandardized()(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(terms), rel=1e-6)  # 1e-7 is added to the deviation


def test_scale_and_offset_of_a_pixel_change_nothing() -> None:
    teacher, labels = torch.randn(2, 4, 3, 3).double(), torch.randint(0, 4, (2, 3, 3))
    scale, offset = torch.rand(2, 1, 3, 3) + 0.5, torch.randn(2, 1, 3, 3)
    for loss in (LogitStandardized(), LogitStandardized(DKD())):
        assert loss(scale * teacher + offset, teacher, labels).item() == pytest.approx(0, abs=1e-9)


def test_a_loss_on_features_is_refused() -> None:
    with pytest.raises(ValueError, match="LogitStandardized: MSE compares features; give a loss on logits"):
        LogitStandardized(MSE())
