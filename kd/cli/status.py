"""How a command ends: its exit status, and the message of an error."""

import errno
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence

from kd.console import drop_output, is_of_output, print_errors
from kd.constants import __version__
from kd.errors import DivergedError, LockedError, RecipeError, StoppedError, StorageError, raised, user_frame
from kd.units import from_environment

MEANINGS = {
    0: "done",
    1: "a bug in kd; the traceback and how to report it are printed",
    2: "a mistake in a recipe or on the command line",
    3: "images or labels are missing or wrong",
    4: "training diverged",
    5: "no checkpoint is valid, or the weights of a run are damaged",
    6: "a file, or standard output, cannot be read or written",
    7: "another process uses the run directory",
    8: "another process of the same run died (under torchrun)",
    9: "runs of a study failed; each is named with its own status",
    129: "stopped by SIGHUP (its terminal was closed); a run has saved a checkpoint, and the same command resumes it",
    130: "stopped by SIGINT (Ctrl-C); a run has saved a checkpoint, and the same command resumes it",
    131: "stopped by SIGQUIT (Ctrl-\\); a run has saved a checkpoint, and the same command resumes it",
    138: "stopped by SIGUSR1 (on macOS 158); a run has saved a checkpoint, and the same command resumes it",
    140: "stopped by SIGUSR2 (on macOS 159); a run has saved a checkpoint, and the same command resumes it",
    141: "the reader of its output has closed the pipe, as in `kd list | head`",
    143: "stopped by SIGTERM; a run has saved a checkpoint, and the same command resumes it",
}
PLAIN = (0, 2)  # of a command that reads recipes or run directories, or prints what kd knows
MEASURING = (0, 2, 3, 5)  # of one that builds datasets and networks too
STUDY_FAILED = 9
CLOSED_PIPE = 141  # 128 + SIGPIPE, which not every system has
EVERY = (1, 6, CLOSED_PIPE)  # may end every command: each prints
OF_THE_SYSTEM = {  # why a file cannot be read or written, whatever a command does with it
    errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO,
    errno.EMFILE, errno.ENFILE, errno.EFBIG,
}  # fmt: skip
TRAINING = tuple(status for status in MEANINGS if status not in (*EVERY, STUDY_FAILED))


def listed(statuses: Sequence[int]) -> str:
    """The exit statuses of a command, as its help prints them, with those of `EVERY`."""
    return "exit status:\n" + "\n".join(f"  {number:>3}  {MEANINGS[number]}" for number in sorted({*statuses, *EVERY}))


def report(error: Exception, settled: Sequence[str] | None) -> int:
    """Print the message of an error, once under torchrun.

    Args:
        error: the exception that ended the command.
        settled: the overrides that replace a budget; None without one.

    Returns:
        The exit status.
    """
    rank = from_environment("RANK", 0)  # torchrun's; the process group may be gone
    exit_status: int | None = getattr(error, "exit_status", None)
    if exit_status is not None:
        if isinstance(error, StoppedError):
            lines = [f"{error}: {command_again(settled)}"]
        else:
            lines = getattr(error, "mistakes", [str(error)])
        if rank == 0:
            print_errors(lines)
        elif not isinstance(error, (StoppedError, RecipeError, LockedError, DivergedError)):  # the same on every rank
            print_errors(f"process {rank}: {line}" for line in lines)
        return exit_status
    if (asked := _memory_asked(error)) is not None:
        print_errors([f"out of memory: {asked}; use a smaller train.batch_size, data.size or network"])
        return RecipeError.exit_status
    if isinstance(error, OSError) and error.errno in OF_THE_SYSTEM:
        if error.filename is None and is_of_output(error):
            drop_output()
            error.filename = "standard output"
        if error.filename is not None:
            print_errors([f"{error.filename}: {error.strerror}"])
            return StorageError.exit_status
    frame = user_frame(error)
    if frame is not None:  # every call of a user's code is guarded at the check, but it may also fail later
        print_errors([f"{frame.filename}:{frame.lineno}: {raised(error)}; this code is not part of kd: correct it"])
        return RecipeError.exit_status
    print_errors("".join(traceback.format_exception(error)).split("\n"))
    report_it = "Please report it with the lines above, the recipe, and what `kd env` prints."
    print_errors([f"kd {__version__}: this is a bug. {report_it}"])
    return 1


def _memory_asked(error: Exception) -> str | None:
    """What this machine's memory was asked for, if that is why a command failed; None if it is not."""
    if isinstance(error, MemoryError):
        return str(error) or "Python could not allocate more"
    found = re.search(r"you tried to allocate \d+ bytes", str(error)) if isinstance(error, RuntimeError) else None
    return found and found[0]


def command_again(settled: Sequence[str] | None) -> str:
    """The command that resumes this one; `settled` replaces its budget."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--fresh"]
    if settled is not None:
        budget = next(i for i, argument in enumerate(arguments) if argument.startswith("--budget"))
        arguments[budget : budget + (1 if "=" in arguments[budget] else 2)] = settled
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return shlex.join(["kd", *arguments])
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["WORLD_SIZE"]) // processes
    spread = ["--nnodes", str(nodes)] if nodes > 1 else ["--standalone"]
    return shlex.join(["torchrun", *spread, "--nproc-per-node", str(processes), "--no-python", "kd", *arguments])
