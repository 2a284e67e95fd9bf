import os
import signal

import pytest

from kd.errors import StoppedError
from kd.train.signals import stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_the_first_signal_is_recorded(number):
    before = signal.getsignal(number)
    with stopping() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal == number
        with pytest.raises(StoppedError, match=f"stopped by {signal.Signals(number).name}; the same command resumes"):
            stop.check()
    assert signal.getsignal(number) == before


def test_the_second_signal_ends_the_process():
    child = os.fork()
    if child == 0:
        with stopping():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
