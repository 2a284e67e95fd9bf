"""Runs as processes of this machine, each with its share of the threads."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, NamedTuple

from kd.study.reader import Run
from kd.study.work import Ended

TRACEBACK = 1  # the exit status of a bug in kd
LINES = 40  # of a traceback that are kept


class _Process(NamedTuple):
    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    slot: int


class LocalWorkers:
    """Trains runs as processes of this machine.

    Args:
        command: of the study, as arguments of `kd`; each process adds `--only` with its run.
        jobs: processes at a time.
        threads: of each process.
        gpus: of this machine, as `CUDA_VISIBLE_DEVICES` names them; processes take them in turn.
    """

    def __init__(self, command: Sequence[str], *, jobs: int, threads: int, gpus: Sequence[str] = ()) -> None:
        self.slots = jobs
        self._command, self._threads, self._gpus = list(command), threads, list(gpus)
        self._processes: dict[Run, _Process] = {}

    def start(self, run: Run) -> None:
        """Begin to train a run."""
        taken = {process.slot for process in self._processes.values()}
        slot = next(slot for slot in range(self.slots) if slot not in taken)
        environment = os.environ | thread_variables(self._threads, self.slots)
        if len(self._gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the process has ended
        process = subprocess.Popen(
            itself([*self._command, *only(run)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
        )
        self._processes[run] = _Process(process, errors, slot)

    def ended(self) -> list[tuple[Run, Ended]]:
        """The runs whose processes have ended."""
        done = []
        for run, (process, errors, _) in list(self._processes.items()):
            status = process.poll()
            if status is not None:
                del self._processes[run]
                errors.seek(0)
                done.append((run, Ended(status, why(status, errors.read().decode(errors="replace")))))
                errors.close()
        return done

    def stop(self, number: int) -> None:
        """Pass a signal on."""
        for process, _, _ in self._processes.values():
            process.send_signal(number)


def itself(words: Sequence[str]) -> list[str]:
    """The command line of `kd` with these words, by the Python that runs now.

    With `-P`, Python does not look for `kd`, or for its own modules, in the current folder, which may be a stranger's.
    """
    return [sys.executable, "-P", "-m", "kd", *words]


def only(run: Run) -> list[str]:
    """The option of `kd study` that trains one run."""
    return ["--only", run.label]


def thread_variables(threads: int, jobs: int) -> dict[str, str]:
    """The environment of a process that computes with so many threads, beside others of its kind."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "KD_JOBS": str(jobs)}


def why(status: int, errors: str) -> str:
    """Why a process failed, from what it printed to standard error."""
    if status == 0:
        return ""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = [line for line in errors.split("\n") if line and not line.startswith("warning: ")]
    return " · ".join(lines[-LINES:] if status == TRACEBACK else lines[:LINES]) or "it printed no reason"
