import numpy as np
import pytest
import torch

from kd.losses import ICKD


def test_two_channels_by_hand() -> None:
    # Teacher: channels active at different pixels, rows (1, 0), (0, 1). Student: at the same pixel, rows (1, 1)/√2.
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).view(1, 2, 1, 2)
    row = (1 - 0.5**0.5) ** 2 + 0.5
    assert ICKD()(student, teacher, None).item() == pytest.approx(row)  # two equal rows, divided by C = 2


def test_formula_with_ignored_pixels() -> None:
    random = np.random.default_rng(1)
    student, teacher = random.normal(size=(2, 3, 4, 3, 5))
    labels = np.zeros((3, 3, 5), dtype=np.int64)
    labels[0, 1] = labels[1, :, 2] = labels[2] = 255
    images = []
    for n in (0, 1):
        grams = []
        for maps in (student, teacher):
            channels = maps[n][:, labels[n] != 255]
            gram = channels @ channels.T
            grams.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
        images.append(np.sum((grams[0] - grams[1]) ** 2) / 4)
    arguments = [torch.from_numpy(a) for a in (student, teacher, labels)]
    assert ICKD()(*arguments).item() == pytest.approx(np.mean(images), rel=1e-12)
    assert ICKD("torchdistill")(*arguments).item() == pytest.approx(np.mean(images) / 3, rel=1e-12)
