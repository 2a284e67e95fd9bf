"""Runs that several processes want to train: one does, and the others wait for it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from kd import distributed
from kd.console import Say
from kd.errors import LockedError
from kd.runs import locked
from kd.train.signals import Stop
from kd.units import duration

POLL = 1.0  # seconds between two attempts to lock a run that another process trains
ATTEMPTS = 60  # attempts between two lines that report the wait


@contextmanager
def in_turn(run_dir: Path, stop: Stop, say: Say, *, wait: bool) -> Iterator[None]:
    """Lock the run directory for the block; if `wait`, wait while another process has locked it."""
    with ExitStack() as lock:
        for attempts in count():
            try:
                distributed.first(lambda: lock.enter_context(locked(run_dir)))
                break
            except LockedError as error:
                if not wait:
                    raise
                if attempts % ATTEMPTS == 0:
                    say(f"{error.who}; waiting for it ({duration(attempts * POLL)})")
            stop.check()
            time.sleep(POLL)
        yield
