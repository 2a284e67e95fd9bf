"""List the runs, finished and unfinished.

Example:
    kd list /data/runs
"""

import argparse

from kd.cli.options import add_runs_named, runs_named
from kd.cli.status import PLAIN

STATUSES = PLAIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the runs are, and the form of the output."""
    add_runs_named(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> None:
    """Print the table of runs."""
    from kd.compare import list_command

    list_command(runs_named(arguments), as_json=arguments.json)
