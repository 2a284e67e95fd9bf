"""The signals of `kd study`: the first one stops it in order, its echo does nothing, a second one ends it at once."""

import math
import os
import signal
import time

import pytest
from tiny import in_child

from kd.study import command


def test_a_signal_that_arrives_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ECHO", math.inf)
    with command._signals() as arrived:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert arrived == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_signal_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ECHO", 0.0)

    def twice() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        with command._signals():
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
                time.sleep(0.01)

    assert in_child(twice) == -signal.SIGTERM
