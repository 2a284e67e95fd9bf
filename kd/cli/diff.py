"""Show key by key what differs between two recipes or run directories.

For run directories it also compares versions, hardware and results.

Example:
    kd diff camvid/mobilenetv3_aspp_kl.yaml camvid/mobilenetv3_aspp_kl_cwd.yaml
"""

import argparse
from pathlib import Path

from kd.cli.status import PLAIN

STATUSES = PLAIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two sides."""
    for name in ("a", "b"):
        parser.add_argument(name, type=Path, metavar=name.upper(), help="a recipe or a run directory")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> None:
    """Print the table of differences."""
    from kd.compare.diff import diff_command

    diff_command(arguments.a, arguments.b, as_json=arguments.json)
