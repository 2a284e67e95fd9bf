"""A clock that only `sleep` moves: what a test measures does not depend on the machine."""

import time

import pytest


class Clock:
    """Replaces the clocks and `sleep` of the time module until the test ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for name in ("monotonic", "perf_counter"):
            monkeypatch.setattr(time, name, lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
