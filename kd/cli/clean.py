"""List the files that no run needs any more, with sizes, and remove them with --yes.

These are: checkpoints of finished runs, unless the recipe sets `train.checkpoints: all`;
directories without a result that `kd run --fresh` moved aside; temporary files of killed
processes. Results, weights and metrics of runs stay.

Example:
    kd clean
    kd clean /data/runs --yes
"""

import argparse

from kd.cli.options import add_runs_named, runs_named
from kd.cli.status import PLAIN

STATUSES = PLAIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and whether anything is removed."""
    add_runs_named(parser)
    parser.add_argument("--yes", action="store_true", help="remove what is listed")


def run(arguments: argparse.Namespace) -> None:
    """List them, and remove them with `--yes`."""
    from kd.diagnose.clean import clean_command

    clean_command(runs_named(arguments), yes=arguments.yes)
