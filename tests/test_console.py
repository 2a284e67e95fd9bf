"""How long a time is in words."""

import pytest

from kd.units import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (45, "45 s"), (100, "2 min"), (672, "11 min"), (5_399, "1 h 30 min"), (11_100, "3 h 05 min")],
)
def test_durations_read_like_speech(seconds: float, text: str) -> None:
    assert duration(seconds) == text
