"""Signals that stop a run after the step, once it is saved. A second signal ends the process immediately."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kd import distributed
from kd.errors import StoppedError

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGBREAK")  # no system has all
SIGNALS = tuple(signal.Signals[name] for name in NAMES if hasattr(signal, name))
PATIENCE = 8.0  # seconds for which a run still waits for data after a signal
ECHO = 2.0  # seconds in which torchrun may forward a signal that its processes have received already


class Stop:
    """Whether a signal has arrived, here or in another process of the run."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since: float | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: record the first one; let the second one take its default action."""
        now = time.monotonic()
        if self._since is not None:
            if distributed.world() > 1 and now - self._since < ECHO:
                return
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal, self._since = self.signal or number, now

    def agreed(self) -> int | None:
        """The signal that any rank has received so far; every rank must call this equally often."""
        number = distributed.largest(self.signal or 0)
        if not number:  # a signal that arrived meanwhile is kept for the next call: the other ranks do not know it yet
            return None
        self.signal = number
        return number

    def check(self) -> None:
        """Raise `StoppedError` if any rank has received a signal: where there is nothing to save."""
        number = self.agreed()
        if number is not None:
            raise StoppedError(number)

    def waiting(self) -> None:
        """Raise `StoppedError` a few seconds after a signal: in waits that may be long, with nothing new to save."""
        if self.signal is not None and self._since is not None and time.monotonic() - self._since > PATIENCE:
            raise StoppedError(self.signal)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Catch the stop signals while the block runs; a SIGHUP that is ignored, as `nohup` asks, stays ignored.

    In a thread other than the main one nothing is caught: Python allows no handlers there.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    nohup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else []
    caught = [number for number in SIGNALS if number not in nohup]
    before = {number: signal.signal(number, stop.handle) for number in caught}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
