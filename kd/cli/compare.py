"""Compare a recipe's student with its baseline and its teacher.

Prints tables of finished runs, and writes a page with curves and pictures.

Example:
    kd compare shapes/mobilenetv3_kl_cwd.yaml
    kd compare runs/a-0123abcd/seed0 runs/b-4567cdef/seed0 --no-page
"""

import argparse
from pathlib import Path

from kd.cli.options import add_files, open_recipes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is compared, and the form of the result."""
    add_files(parser, "TARGET", "recipes, run directories, and `path=value`")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    page = parser.add_mutually_exclusive_group()
    page.add_argument("--html", type=Path, metavar="FILE", help="where the page goes (default: the run directory)")
    page.add_argument("--no-page", action="store_true", help="write no page; needs no torch and answers at once")


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison and write its page."""
    if arguments.html or not (arguments.no_page or arguments.json):  # the page shows predictions, made with torch
        open_recipes(arguments, [target for target in arguments.files if not Path(target).is_dir()])
    from kd.compare import compare_command

    return compare_command(
        arguments.files,
        runs=arguments.runs,
        overrides=arguments.overrides,
        trust=arguments.trust,
        as_json=arguments.json,
        html=arguments.html,
        page=not arguments.no_page,
    )
