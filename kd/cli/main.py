"""The command line: parse, call, and turn an exception into an exit status."""

import argparse
import io
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pkgutil import iter_modules

from kd.cli import status
from kd.cli.options import refuse_idle_options, sort_out
from kd.console import drop_output, flush_output, print_errors
from kd.constants import __version__
from kd.errors import did_you_mean, one_line

FIRST = ("demo", "copy", "init", "check", "run", "compare")  # in `kd --help`: a newcomer's way; then by name
SHARED = ("main", "options", "status")  # the modules of kd.cli that are no commands


def commands() -> list[str]:
    """The names of all commands: the modules of kd.cli (docs/add-a-command.md)."""
    names = {module.name for module in iter_modules(import_module("kd.cli").__path__)} - {*FIRST, *SHARED}
    return [*FIRST, *sorted(names)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status, see `kd.cli.status.MEANINGS`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe on Windows may have an encoding without × and σ
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = argparse.Namespace()
    try:
        arguments = _parse(sys.argv[1:] if argv is None else argv)
        warnings.showwarning = _one_line
        exit_status = int(arguments.run(arguments) or 0)
        flush_output()
        return exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `kd list | head`: keep the interpreter from flushing into the closed pipe
        drop_output()
        return status.CLOSED_PIPE
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich's, which has closed the pipe already
            return status.CLOSED_PIPE
        raise
    except Exception as error:  # noqa: BLE001  # the last resort: a bug of ours gets its traceback and status 1
        return status.report(error, getattr(arguments, "settled", None))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse, with names and `path=value` allowed after options too: argparse alone takes all positionals together."""
    names = commands()
    parser = make_parser(argv[:1] if argv and argv[0] in names else names)
    errors, shown = io.StringIO(), io.StringIO()
    try:
        # It prints what the arguments hold as it is, and ignores an output that cannot be written.
        with redirect_stderr(errors), redirect_stdout(shown):
            if argv and argv[0] in names:
                parser, known = _parser_of(parser, argv[0]), argparse.Namespace(command=argv[0])
                arguments, rest = parser.parse_known_intermixed_args(argv[1:], known)
            else:  # help, or a mistake
                arguments, rest = parser.parse_known_args(argv)
            if rest:
                parser.error(f"unrecognized arguments: {one_line(' '.join(rest))}{_meant(rest, parser)}")
    except SystemExit:
        print_errors(errors.getvalue().removesuffix("\n").split("\n") if errors.getvalue() else ())
        flush_output(shown.getvalue())
        raise
    refuse_idle_options(parser, arguments)
    sort_out(arguments)
    return arguments


def _meant(rest: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """The option that the first unknown one may stand for."""
    unknown = next((text.partition("=")[0] for text in rest if text.startswith("-")), None)
    return "" if unknown is None else did_you_mean(unknown, parser._option_string_actions)


def _parser_of(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    """The parser of a command."""
    found: argparse.ArgumentParser = next(
        action.choices[name] for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    return found


def make_parser(names: Iterable[str]) -> argparse.ArgumentParser:
    """The parser of these commands; a command imports its code when it runs, so none waits for another's imports."""
    parser = argparse.ArgumentParser(
        prog="kd",
        allow_abbrev=False,
        description="Knowledge distillation for semantic segmentation.",
        epilog="`kd COMMAND --help` shows a command's options, an example and its exit statuses.",
    )
    parser.add_argument("--version", action="version", version=f"kd {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        module = import_module(f"kd.cli.{name}")
        description, _, example = (module.__doc__ or "").partition("\n\nExample:\n")
        command = subparsers.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            epilog=f"example:\n{example}\n{status.listed(module.STATUSES)}\n\nmore: docs/commands.md",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # `kd.cli.status.command_again` looks for whole options
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    print_errors([f"warning: {' '.join(str(message).split())}"])
