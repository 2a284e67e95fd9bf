"""Runs as tasks of a Ray cluster, whose nodes share the folders of data and runs."""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kd.errors import RecipeError
from kd.study.local import itself, only, thread_variables, why
from kd.study.reader import Run
from kd.study.work import Ended

WAIT = 10.0  # seconds for a connection
PATIENCE = 60.0  # seconds for a cluster to answer
PROBE = "import ray, sys\nray.init(address=sys.argv[1], log_to_driver=False, logging_level=50)"
RETRIES = 20  # after a node has died; each resumes from the last checkpoint


class Needs(NamedTuple):
    """What one run reserves."""

    threads: int
    gpus: float | None = None  # None: one where the cluster has any
    memory: float | None = None  # 10⁹ bytes; None: not reserved


class RayWorkers:
    """Trains runs as tasks of a Ray cluster; a task whose node dies is retried on another one.

    Args:
        command: of the study, as arguments of `kd`; each task adds `--only` with its run.
        address: of the cluster, as `ray start` prints it; empty: the one that runs here, or a new one on this machine.
        slots: runs that are given to the cluster at a time; infinite: all of them.
        needs: what each run reserves.

    Raises:
        RecipeError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, command: Sequence[str], *, address: str, slots: float, needs: Needs) -> None:
        self.slots = slots
        self._command, self._ray = list(command), _connected(address)
        gpus = needs.gpus if needs.gpus is not None else min(1.0, self._ray.cluster_resources().get("GPU", 0.0))
        reserved: dict[str, Any] = {"num_cpus": needs.threads, "num_gpus": gpus}
        if needs.memory is not None:
            reserved["memory"] = int(needs.memory * 1e9)
        self._task = self._ray.remote(train).options(max_retries=RETRIES, **reserved)
        self._environment = thread_variables(needs.threads, 1)
        self._runs: dict[Any, Run] = {}  # by the reference of the task

    def start(self, run: Run) -> None:
        """Give a run to the cluster."""
        words = [*self._command, *only(run)]
        self._runs[self._task.remote(words, os.getcwd(), self._environment)] = run

    def ended(self) -> list[tuple[Run, Ended]]:
        """The runs whose tasks have ended."""
        if not self._runs:
            return []
        done, _ = self._ray.wait(list(self._runs), num_returns=len(self._runs), timeout=0)
        return [(self._runs.pop(reference), self._result(reference)) for reference in done]

    def stop(self, number: int) -> None:
        """Cancel all tasks; each saves its run first."""
        for reference in self._runs:
            self._ray.cancel(reference, force=False)

    def _result(self, reference: Any) -> Ended:
        try:
            return Ended(*self._ray.get(reference))
        except self._ray.exceptions.TaskCancelledError:
            return Ended(128 + signal.SIGTERM, "cancelled")
        except self._ray.exceptions.RayError as error:
            return Ended(1, f"Ray: {' '.join(str(error).split())[:500]}")


def train(words: Sequence[str], folder: str, variables: dict[str, str]) -> tuple[int, str]:
    """Train one run on this node; the exit status, and why it failed. Where the task is cancelled, the run saves."""
    process = subprocess.Popen(
        itself(words),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | variables,
    )
    try:
        _, errors = process.communicate()
    except BaseException:  # Ray interrupts the task
        process.send_signal(signal.SIGTERM)
        process.communicate()
        raise
    return process.returncode, why(process.returncode, errors.decode(errors="replace"))


def _connected(address: str) -> Any:
    """The package `ray`, connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to its makers
    try:
        import ray
    except ImportError:
        raise RecipeError("--on: ray is not installed; pip install 'kd-segmentation[ray]'") from None
    try:
        if address:
            _probe(address)
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.ERROR)
    except subprocess.TimeoutExpired:
        raise RecipeError(
            f"--on: what listens at {address} is no head of a Ray cluster; give the address that ray start --head "
            "prints (its port is 6379, not the 10001 of Ray Client)"
        ) from None
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        if "AuthenticationError" in {type(cause).__name__ for cause in _causes(error)}:
            raise RecipeError(
                f"--on: the cluster at {address} asks for a token; put RAY_AUTH_MODE=token before the command (Ray "
                "reads the token from ~/.ray/auth_token)"
            ) from None
        what = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"--on: no Ray cluster answers at {address or 'this machine'} ({what}); start one: ray start --head"
        ) from None
    return ray


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _probe(address: str) -> None:
    """Raise OSError or TimeoutExpired where no cluster answers: Ray itself tries for minutes, and cannot be stopped."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=WAIT).close()
    probe = [sys.executable, "-P", "-c", PROBE, address]
    subprocess.run(probe, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL, capture_output=True)
