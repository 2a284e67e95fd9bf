"""The command line: parse, call, and turn what is raised into an exit status."""

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from kd import __version__
from kd.cli import status
from kd.cli.options import sort_out

# One module of kd.cli a command, in the order of `kd --help`. Each has a docstring, whose first line is the summary,
# `add_arguments(parser)` and `run(arguments) -> int | None`, and imports what it runs only when it runs.
COMMANDS = (
    "demo", "run", "cache", "check", "compare", "diff", "list",
    "doctor", "inspect", "calibrate", "bench", "env", "schema", "copy",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status (see docs/architecture.md).
    """
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    warnings.showwarning = _one_line
    try:
        return int(arguments.run(arguments) or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `kd list | head`: keep the interpreter from flushing into the closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001  # the last resort: a bug of ours gets its traceback and status 1
        return status.report(error, getattr(arguments, "settled", None))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse, with `path=value` allowed after options too: argparse alone takes positionals in one piece."""
    parser = _parser(argv[:1] if argv and argv[0] in COMMANDS else COMMANDS)
    arguments, rest = parser.parse_known_args(argv)
    if any("=" not in text or text.startswith("-") for text in rest) or (rest and not hasattr(arguments, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    sort_out(arguments, rest)
    return arguments


def _parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kd", description="Knowledge distillation for semantic segmentation.")
    parser.add_argument("--version", action="version", version=f"kd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        module = import_module(f"kd.cli.{name}")
        summary = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    status.tell(f"warning: {message}")
