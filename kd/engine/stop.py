"""Asked to stop: finish the step, save, leave. A second signal ends the process at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StoppedError(Exception):
    """A signal asked the run to stop, and it has saved.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; the same command goes on from here")
        self.signal = number


class Stop:
    """Whether a signal has come."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def asked(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: note the first one; hand the second to the default action."""
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number

    def check(self) -> None:
        """Raise `StoppedError` if a signal has come: for places with nothing to save."""
        if self.signal is not None:
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
