"""What has become of a run: finished, running, failed, stopped, or never begun; and why one failed: `failure.json`."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Literal, NamedTuple

from filelock import FileLock, Timeout
from pydantic import BaseModel

from kd.errors import StoppedError, StorageError, one_line
from kd.files.checked import STRICT, read_checked
from kd.files.reading import exists
from kd.files.storage import write_json
from kd.runs.directory import is_finished
from kd.runs.metrics import latest

CLAIM = ".claim"
FAILURE = "failure.json"
HELD = (errno.EWOULDBLOCK, errno.EACCES)  # EACCES: on some network disks
LONGEST = 2_000  # characters of a reason


class Failure(BaseModel):
    """Why a run ended without a result; removed when it is trained again."""

    model_config = STRICT

    status: int  # the exit status
    why: str


class RunState(NamedTuple):
    """What has become of a run."""

    kind: Literal["finished", "running", "failed", "stopped", "missing"]
    step: int = 0  # of its newest report; 0 of a finished or missing run
    why: str = ""  # it failed

    def __str__(self) -> str:
        step = f", step {self.step:,}" if self.step else ""
        return f"{self.kind}{step}{': ' if self.why else ''}{self.why}"


def state_of(run_dir: Path) -> RunState:
    """What has become of a run, as its directory shows."""
    if is_finished(run_dir):
        return RunState("finished")
    try:
        exists(run_dir / "recipe.yaml", StorageError)
    except StorageError as error:  # of another user
        return RunState("failed", why=str(error))
    running = is_locked(run_dir)
    if not running and not (run_dir / "recipe.yaml").exists() and not (run_dir / FAILURE).exists():
        return RunState("missing")
    step, _ = latest(run_dir)
    failure = None if running else read_failure(run_dir)
    if failure is not None:
        return RunState("failed", step, failure.why)
    return RunState("running" if running else "stopped", step)


def is_locked(run_dir: Path) -> bool:
    """Whether a process trains this run now, or has claimed it."""
    return any(map(_is_held, (run_dir / ".lock", run_dir / CLAIM)))


def _is_held(path: Path) -> bool:
    """Whether a process holds a lock. Whoever looks follows no link, and opens the file for reading alone.

    So it works on a read-only disk, and in the run of another user, whose lock nobody else may write. Of a lock that
    nobody else may read, no process is known to hold it.
    """
    try:
        return S_ISREG(path.lstat().st_mode) and _is_taken(path)
    except OSError:  # there is none, or it may not be read
        return False


def _is_taken(path: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # on Windows, whoever looks takes the lock for a moment
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in HELD
    return False


def claim(run_dir: Path) -> FileLock | None:
    """Claim a run for a process that will lock it as soon as it has started; None if another one has the claim.

    The claim ends when it is released, and with this process.

    Raises:
        StorageError: the directory cannot be written.
    """
    lock = FileLock(run_dir / CLAIM)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except OSError as error:
        raise StorageError(f"{run_dir}: cannot be written ({error.strerror}); choose --runs DIR") from None
    return lock


def read_failure(run_dir: Path) -> Failure | None:
    """Why a run failed; None if it did not."""
    if not (run_dir / FAILURE).exists():
        return None
    try:
        return read_checked(run_dir / FAILURE, Failure)
    except StorageError as error:
        return Failure(status=error.exit_status, why=str(error))


@contextmanager
def failure_noted(run_dir: Path) -> Iterator[None]:
    """Write why the block fails to the run directory, which this process has locked."""
    (run_dir / FAILURE).unlink(missing_ok=True)
    try:
        yield
    except StoppedError:
        raise
    except Exception as error:
        why = " · ".join(getattr(error, "mistakes", [f"{type(error).__name__}: {error}"]))
        write_failure(run_dir, Failure(status=getattr(error, "exit_status", 1), why=why))
        raise


def write_failure(run_dir: Path, failure: Failure) -> None:
    """Write why a run failed, if its directory is there and can be written."""
    with suppress(StorageError):
        if run_dir.is_dir():
            write_json(run_dir / FAILURE, {"status": failure.status, "why": one_line(failure.why)[:LONGEST]})
