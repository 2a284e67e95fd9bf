import math

import numpy as np
import pytest
import torch

from kd.losses import AT


def test_two_pixels_by_hand() -> None:
    # The student's attention is (1, 0); the teacher's squares are (3, 4), so its attention is (0.6, 0.8).
    student = torch.tensor([2.0, 0.0]).view(1, 1, 1, 2)
    teacher = torch.tensor([math.sqrt(3), 2.0]).view(1, 1, 1, 2)
    assert AT()(student, teacher, None).item() == pytest.approx(0.4**2 + 0.8**2)
    assert AT(convention="cirkd")(student, teacher, None).item() == pytest.approx((0.4**2 + 0.8**2) / 2)
    assert AT(convention="paper")(student, teacher, None).item() == pytest.approx(math.sqrt(0.4**2 + 0.8**2))


def test_formula_with_other_channels_and_ignored_pixels() -> None:
    random = np.random.default_rng(5)
    student, teacher = random.normal(size=(2, 3, 2, 3)), random.normal(size=(2, 5, 2, 3))
    labels = np.zeros((2, 2, 3), dtype=np.int64)
    labels[0, 1] = labels[1, 0, 0] = 255
    images = []
    for n in (0, 1):
        maps = [np.mean(features[n] ** 2, axis=0)[labels[n] != 255] for features in (student, teacher)]
        s, t = (m / np.linalg.norm(m) for m in maps)
        images.append(np.sum((s - t) ** 2))
    ours = AT()(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(images), rel=1e-12)


def test_a_factor_per_image_changes_nothing() -> None:
    maps = torch.randn(2, 3, 4, 5)
    assert AT()(maps * torch.tensor([5.0, 0.1])[:, None, None, None], maps).item() == pytest.approx(0, abs=1e-6)
