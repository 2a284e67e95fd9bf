import math

import numpy as np
import pytest
import torch

from kd.losses import CWD


def test_two_pixels_by_hand() -> None:
    # One channel over two pixels: the teacher is active 3 : 1, the student 1 : 1.
    teacher = torch.tensor([math.log(3.0), 0.0]).view(1, 1, 1, 2)
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert CWD()(torch.zeros(1, 1, 1, 2), teacher, None).item() == pytest.approx(by_hand)


def test_formula_with_temperature_and_ignored_pixels() -> None:
    random = np.random.default_rng(4)
    student, teacher = random.normal(size=(2, 3, 2, 2, 3))  # N = 3, C = 2, 2 × 3 pixels
    labels = np.zeros((3, 2, 3), dtype=np.int64)
    labels[0, 0] = labels[1, 1, 2] = 255
    labels[2] = 255  # no valid pixel: left out of the mean
    images = []
    for n in (0, 1):
        seen = labels[n] != 255
        channels = []
        for c in (0, 1):
            t, s = (np.exp(maps[n, c][seen] / 4) for maps in (teacher, student))
            t, s = t / t.sum(), s / s.sum()
            channels.append(16 * np.sum(t * np.log(t / s)))
        images.append(np.mean(channels))
    ours = CWD(temperature=4.0)(*(torch.from_numpy(a) for a in (student, teacher, labels)))
    assert ours.item() == pytest.approx(np.mean(images), rel=1e-12)


def test_a_constant_per_channel_changes_nothing() -> None:
    maps = torch.randn(2, 3, 4, 5)
    assert CWD()(maps + torch.tensor([5.0, -2.0, 0.1])[:, None, None], maps).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("temperature", [0, -4.0])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature is {temperature}; it must be above 0"):
        CWD(temperature)


def test_the_message_has_both_shapes() -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole text is compared below
        CWD()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 8, 4, 4), None)
    assert str(error.value) == (
        "student (1, 3, 4, 4), teacher (1, 8, 4, 4): channels differ; add an adapter such as kd.adapters.Conv1x1"
    )
