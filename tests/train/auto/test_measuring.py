"""How long a measurement still takes is shown while it runs."""

from contextlib import contextmanager

import pytest

from kd.train.auto import measuring
from kd.train.auto.measuring import clock


@pytest.fixture
def shown(monkeypatch):
    lines = []

    @contextmanager
    def progress(title, total, unit):
        yield lambda done: lines.append(f"{title} {done}/{total} {unit}")

    monkeypatch.setattr(measuring, "progress", progress)
    return lines


def test_each_tick_shows_the_seconds_that_have_passed(shown, monkeypatch):
    times = iter((100.0, 103.9, 125.0))
    monkeypatch.setattr(measuring.time, "monotonic", lambda: next(times))
    with clock("measures student a", 20.0, quiet=False) as tick:
        tick()
        tick()  # a step that has started is completed
    assert shown == ["measures student a 3/20 s", "measures student a 20/20 s"]


def test_a_quiet_clock_shows_nothing(shown):
    with clock("measures student a", 20.0, quiet=True) as tick:
        tick()
    assert shown == []
