"""Asked to stop: finish the step, save, leave. A second signal ends the process at once."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kd import distributed
from kd.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
PATIENCE = 8.0  # seconds after a signal for which data is still waited for
ECHO = 2.0  # seconds in which torchrun passes on a signal that its processes may have got themselves


class Stop:
    """Whether a signal has come, here or in another process of the run."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since: float | None = None

    def asked(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: note the first one; hand the second to the default action."""
        now = time.monotonic()
        if self._since is not None:
            if distributed.world() > 1 and now - self._since < ECHO:
                return
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal, self._since = self.signal or number, now

    def agreed(self) -> int | None:
        """The signal that any rank has got so far; every rank must ask equally often."""
        self.signal = distributed.largest(self.signal or 0) or None
        return self.signal

    def check(self) -> None:
        """Raise `StoppedError` if any rank has got a signal: for places with nothing to save."""
        number = self.agreed()
        if number is not None:
            raise StoppedError(number)

    def waiting(self) -> None:
        """Raise `StoppedError` a few seconds after a signal: for waits that could last, with nothing new to save."""
        if self.signal is not None and self._since is not None and time.monotonic() - self._since > PATIENCE:
            raise StoppedError(self.signal)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Catch the signals that ask for a stop while the block runs."""
    stop = Stop()
    before = {number: signal.signal(number, stop.asked) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
