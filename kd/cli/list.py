"""List the runs, finished and unfinished.

Example:
    kd list --runs /data/runs
"""

import argparse

from kd.cli.options import add_runs as add_arguments
from kd.cli.status import PLAIN

__all__ = ["STATUSES", "add_arguments", "run"]

STATUSES = PLAIN


def run(arguments: argparse.Namespace) -> None:
    """Print the table of runs."""
    from kd.compare import list_command

    list_command(arguments.runs)
