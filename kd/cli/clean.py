"""List what no run needs any more, with sizes, and free it with --yes."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and whether anything is removed."""
    parser.add_argument(
        "runs", metavar="RUNS", nargs="?", type=Path, default=Path("runs"), help="run directories (default: runs)"
    )
    parser.add_argument("--yes", action="store_true", help="remove what is listed; results, weights and metrics stay")


def run(arguments: argparse.Namespace) -> None:
    """List it, and remove it with `--yes`."""
    from kd.clean import clean_command

    clean_command(arguments.runs, yes=arguments.yes)
