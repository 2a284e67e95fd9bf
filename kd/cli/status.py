"""How a command ends: the exit status, and what is said of an error."""

import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

from kd import __version__
from kd.errors import DivergedError, LockedError, RecipeError, StoppedError


def report(error: Exception, settled: Sequence[str] | None) -> int:
    """Print what a user reads of an error, once under torchrun; the exit status.

    Args:
        error: what ended the command.
        settled: the overrides that a budget stood for, if one did.
    """
    rank = int(os.environ.get("RANK", "0"))  # torchrun's; the process group may be gone
    exit_status: int | None = getattr(error, "exit_status", None)
    if exit_status is not None:
        if rank == 0:
            tell(f"{error}: {command_again(settled)}" if isinstance(error, StoppedError) else str(error))
        elif not isinstance(error, (StoppedError, RecipeError, LockedError, DivergedError)):  # the same on every rank
            tell(f"process {rank}: {error}")
        return exit_status
    tell(
        f"{''.join(traceback.format_exception(error))}\n"
        f"kd {__version__}: this is a bug. Please report it with the lines above, the recipe, and what `kd env` prints."
    )
    return 1


def tell(text: str) -> None:
    """Print to standard error, if anybody reads it: for want of it no run ends and no status changes."""
    with suppress(OSError):
        print(text, file=sys.stderr)


def command_again(settled: Sequence[str] | None) -> str:
    """The command that goes on with what this one began; `settled` stands for its budget."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--fresh"]
    if settled is not None:
        budget = next(i for i, argument in enumerate(arguments) if argument.startswith("--budget"))
        arguments[budget : budget + (1 if "=" in arguments[budget] else 2)] = settled
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return shlex.join(["kd", *arguments])
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["WORLD_SIZE"]) // processes
    spread = ["--nnodes", str(nodes)] if nodes > 1 else ["--standalone"]
    return shlex.join(["torchrun", *spread, "--nproc-per-node", str(processes), "-m", "kd", *arguments])
