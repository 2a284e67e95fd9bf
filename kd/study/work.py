"""Train what is missing: whichever process locks a run trains it, so any number of them can work on one study."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from filelock import FileLock

from kd.console import Say
from kd.errors import LockedError, StoppedError, StorageError, WeightsError
from kd.metrics import scores
from kd.runs import Failure, claim, is_finished, is_locked, read_failure, read_overview, write_failure
from kd.runs.state import FAILURE
from kd.study.reader import Run
from kd.units import duration

POLL = 0.5  # seconds between two looks at the runs
REPORT = 60.0  # seconds between two lines of progress


class Ended(NamedTuple):
    """How one attempt at a run ended."""

    status: int  # the exit status; minus the number of the signal that killed it
    why: str = ""  # in one line; empty where it finished


class Workers(Protocol):
    """Where runs are trained, each in a process of its own."""

    @property
    def slots(self) -> float:
        """How many train at the same time; infinite where a cluster decides it."""

    def start(self, run: Run) -> None:
        """Begin to train a run."""

    def ended(self) -> Sequence[tuple[Run, Ended]]:
        """The runs that have ended since the last call."""

    def stop(self, number: int) -> None:
        """Pass a signal on to all that train; each saves and ends."""


class Work:
    """The runs of a study while they are trained.

    Args:
        runs: of the study, teachers before their students.
        folder: of run directories.
        workers: train them.
        say: takes the lines for the user.
        stopped: the signal that has arrived, or None.

    Attributes:
        failed: why, by run; a run whose teacher failed is one of them.
    """

    def __init__(
        self, runs: Sequence[Run], folder: Path, workers: Workers, say: Say, stopped: Callable[[], int | None]
    ) -> None:
        self.failed: dict[Run, Ended] = {}
        self._runs, self._folder, self._workers, self._say, self._stopped = runs, folder, workers, say, stopped
        self._pending = [run for run in runs if not self._finished(run)]
        self._before = {run.label: self._stamp(run) for run in self._pending}  # failures of earlier attempts
        self._training: dict[Run, float] = {}  # since when
        self._claims: dict[Run, FileLock] = {}
        self._durations: list[float] = []

    def train(self) -> None:
        """Train until every run is finished or has failed.

        Raises:
            StoppedError: a signal arrived; what trained has been saved.
        """
        reported, passed_on = time.monotonic(), False
        while self._pending or self._training:
            number = self._stopped()
            if number is not None:
                if not self._training:
                    raise StoppedError(number)
                if not passed_on:
                    self._say(f"stops: {len(self._training)} runs save their state")
                    self._workers.stop(number)
                    passed_on = True
            else:
                self._take()
            for run, ended in self._workers.ended():
                self._note(run, ended)
            if time.monotonic() - reported > REPORT:
                reported = time.monotonic()
                self._say(self._progress())
            if self._pending or self._training:
                time.sleep(POLL)
        if (number := self._stopped()) is not None:
            raise StoppedError(number)

    def _take(self) -> None:
        """Begin runs that nothing stands in the way of, as many as there are slots."""
        for run in list(self._pending):
            if self._finished(run):
                self._pending.remove(run)
                self._say(f"{run.label}: finished by another process ({self._count()})")
            elif any(teacher in self.failed for teacher in run.needs):
                self._pending.remove(run)
                self._note(run, Ended(2, f"its teacher {run.needs[0].label} failed"))
            elif not all(map(self._finished, run.needs)) or is_locked(run.run_dir(self._folder)):
                continue
            elif (failure := self._new_failure(run)) is not None:
                self._pending.remove(run)
                self._note(run, Ended(failure.status, f"in another process: {failure.why}"))
            elif len(self._training) < self._workers.slots:
                self._start(run)

    def _start(self, run: Run) -> None:
        """Begin a run, unless another process has claimed it in this moment."""
        run_dir = run.run_dir(self._folder)
        try:
            claimed = claim(run_dir)
        except StorageError as error:
            self._pending.remove(run)
            self._note(run, Ended(error.exit_status, str(error)))
            return
        if claimed is not None and self._finished(run):  # in this moment, by another process
            claimed.release()
        elif claimed is not None:
            self._pending.remove(run)
            self._claims[run] = claimed
            self._training[run] = time.monotonic()
            self._say(f"{run.label}: trains ({run_dir})")
            self._workers.start(run)

    def _note(self, run: Run, ended: Ended) -> None:
        """Report the end of a run; one that another process has locked is looked at again."""
        began = self._training.pop(run, None)
        if began is not None and self._finished(run):
            spent = time.monotonic() - began
            self._durations.append(spent)
            self._say(f"{run.label}: {self._score(run)} after {duration(spent)} ({self._count()})")
        elif ended.status == LockedError.exit_status:
            self._pending.append(run)
        elif self._stopped() is None:
            self.failed[run] = ended
            if began is not None and read_failure(run.run_dir(self._folder)) is None:  # it was killed, or never began
                write_failure(run.run_dir(self._folder), Failure(status=ended.status, why=ended.why))
            self._say(f"{run.label}: failed, status {ended.status}: {ended.why}")
        if run in self._claims:
            self._claims.pop(run).release()

    def _progress(self) -> str:
        training = ", ".join(run.label for run in self._training)
        left = len(self._pending) + len(self._training)
        end = ""
        slots = max(self._workers.slots, 1)
        if self._durations and slots < math.inf:
            seconds = sum(self._durations) / len(self._durations) * math.ceil(left / slots)
            end = f"; about {duration(seconds)} left"
        return f"{self._count()}; training: {training or 'elsewhere'}{end}"

    def _count(self) -> str:
        done = sum(map(self._finished, self._runs))
        return f"{done} of {len(self._runs)} finished"

    def _score(self, run: Run) -> str:
        with suppress(StorageError, WeightsError):
            split = read_overview(run.run_dir(self._folder)).splits["val"]
            return f"{split.title} {100 * scores(split.confusion).miou:.1f} %"
        return "finished, but its result cannot be read"

    def _finished(self, run: Run) -> bool:
        return is_finished(run.run_dir(self._folder))

    def _new_failure(self, run: Run) -> Failure | None:
        """Why another process failed at a run since this one began; None if none did."""
        if self._stamp(run) in (None, self._before[run.label]):
            return None
        return read_failure(run.run_dir(self._folder))

    def _stamp(self, run: Run) -> tuple[int, int] | None:
        """What distinguishes a failure from an earlier one; clocks of other machines are not compared."""
        with suppress(OSError):
            stat = (run.run_dir(self._folder) / FAILURE).stat()
            return stat.st_mtime_ns, stat.st_ino
        return None
