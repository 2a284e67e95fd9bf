"""Compare a recipe's student with its baseline and its teacher."""

import argparse
from pathlib import Path
from typing import Any

from kd.cli.options import add_files, open_recipes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is compared, and the form of the result."""
    add_files(parser, "TARGET", "recipes, run directories, and `path=value`")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--html", type=Path, metavar="FILE", help="where the page goes (default: the run directory)")
    parser.add_argument("--no-page", action="store_true", help="print the tables only")


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison and write its page."""
    if not arguments.no_page:
        open_recipes(arguments, [target for target in arguments.files if not Path(target).is_dir()])
    from kd.compare import compare_command

    without_page: dict[str, Any] = {"page": False} if arguments.no_page else {}
    return compare_command(
        arguments.files,
        runs=arguments.runs,
        overrides=arguments.overrides,
        trust=arguments.trust,
        as_json=arguments.json,
        html=arguments.html,
        **without_page,
    )
