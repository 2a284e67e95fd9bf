import math

import pytest

from kd.engine.schedule import constant, cosine, linear, poly


def test_poly_is_the_power_of_what_is_left():
    factor = poly(steps=100)
    assert [factor(0), factor(50), factor(99)] == pytest.approx([1.0, 0.5**0.9, 0.01**0.9])


def test_warmup_climbs_in_a_line_and_the_rest_starts_at_one():
    factor = poly(steps=100, warmup="5%")
    assert [factor(s) for s in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert factor(99) == pytest.approx((1 / 95) ** 0.9)


def test_cosine_goes_from_one_to_its_end():
    factor = cosine(steps=10, end=0.1)
    assert [factor(0), factor(5), factor(10)] == pytest.approx([1.0, 0.55, 0.1])
    assert factor(3) == pytest.approx(0.1 + 0.9 * (1 + math.cos(0.3 * math.pi)) / 2)


def test_constant_and_linear():
    assert constant(steps=10)(7) == 1.0
    factor = linear(steps=100, start=0.0, end=3.0, over="10%")
    assert [factor(s) for s in (0, 5, 10, 99)] == pytest.approx([0.0, 1.5, 3.0, 3.0])


def test_mistakes_say_both_numbers():
    with pytest.raises(ValueError, match="warmup: 20 steps, but the run has 10; shorten the warm-up"):
        poly(steps=10, warmup=20)
    with pytest.raises(ValueError, match="start and end must be >= 0, got -1 and 0.0"):
        linear(steps=10, start=-1)
