"""The evidence that probabilities hold about labels, against hand-worked values and against random guesses."""

import math

import numpy as np
import pytest
import torch

from kd.parts.checks.evidence import Evidence, evenness, is_beyond_chance, knows


def test_evidence_of_one_image_by_hand():
    evidence = Evidence(2)
    labels = torch.tensor([[0, 0, 1, 255]])
    probabilities = torch.tensor([[[1.0, 0.5, 0.0, 0.9]], [[0.0, 0.5, 1.0, 0.1]]])
    evidence.update(labels, probabilities)
    state = evidence.state()
    sure, even, wrong = math.log(0.9 + 0.05), math.log(0.5), math.log(0.05)  # nine tenths of p, one tenth even
    expected = [[(sure + even) / 2, (wrong + even) / 2], [wrong, sure]]
    assert state["sums"] == pytest.approx(np.array(expected) + math.log(2))
    assert state["observed"].tolist() == [1, 1]
    assert knows(state, [0, 1]) == pytest.approx(((sure + even) / 2 + sure + 2 * math.log(2)) / (2 * math.log(2)))
    entropy = (math.log(2) + -0.9 * math.log(0.9) - 0.1 * math.log(0.1)) / 4
    assert evenness(state) == pytest.approx(entropy / math.log(2))


def test_images_count_and_pixels_do_not():
    labels, probabilities = torch.zeros(4, 4, dtype=torch.long), torch.full((3, 4, 4), 0.01)
    probabilities[0] = 0.98
    small, large = Evidence(3), Evidence(3)
    small.update(labels, probabilities)
    large.update(labels.repeat(9, 9), probabilities.repeat(1, 9, 9))
    assert large.state()["sums"] == pytest.approx(small.state()["sums"])
    threshold = math.log(66)  # 11 forms and 6 orders
    for images in range(2, 12):
        small.update(labels, probabilities)
        sure = images * math.log(3 * (0.9 * 0.98 + 0.1 / 3)) >= threshold + math.log(100)
        assert is_beyond_chance(small.state(), [0, 1, 2], threshold) == sure
    assert sure  # eleven images are enough, two are not


def test_guesses_are_beyond_chance_in_at_most_one_of_a_hundred_cases():
    """Probabilities that know nothing of the labels, and the best of all orders of three classes."""
    generator, orders = (
        torch.Generator().manual_seed(0),
        [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)],
    )
    alarms = 0
    for _ in range(300):
        evidence = Evidence(3)
        for _ in range(3):
            labels = torch.randint(0, 3, (1, 2), generator=generator)  # few pixels: the hardest case
            evidence.update(labels, torch.randn(3, 1, 2, generator=generator).mul(4).softmax(0))
        alarms += any(is_beyond_chance(evidence.state(), order, math.log(6)) for order in orders)
    assert alarms <= 3
