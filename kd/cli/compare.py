"""Compare a recipe's student with its baseline and its teacher.

Prints tables of finished runs, and writes a page with curves and pictures.

Example:
    kd compare shapes/mobilenetv3_kl_cwd.yaml
    kd compare runs/a-0123abcd/seed0 runs/b-4567cdef/seed0 --no-page
    kd compare shapes/mobilenetv3_kl_cwd.yaml --images 40 --image val/17
    kd compare shapes/mobilenetv3_kl_cwd.yaml --markdown > answer.md
"""

import argparse
import os
from pathlib import Path

from kd.cli.options import add_files
from kd.cli.status import PLAIN

STATUSES = PLAIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is compared, and the form of the output."""
    add_files(parser, "TARGET", "recipes, run directories, and `path=value`")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of tables")
    form.add_argument("--markdown", action="store_true", help="print Markdown instead of tables")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row for each network")
    page = parser.add_mutually_exclusive_group()
    page.add_argument(
        "--html", type=Path, metavar="FILE", help="the page's file (default: report.html in the run directory)"
    )
    page.add_argument("--no-page", action="store_true", help="write no page; torch is not imported")
    parser.add_argument(
        "--images", type=int, metavar="N", help="number of images on the page (default: those that the runs have kept)"
    )
    parser.add_argument(
        "--image", action="append", default=[], metavar="NAME", help="show this image first; may be repeated"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the comparison and write its page."""
    from kd.compare import Form, compare_command
    from kd.errors import RecipeError
    from kd.recipe import read_recipe
    from kd.recipe.overrides import refuse_idle

    run_dirs = [target for target in arguments.files if os.path.isdir(target)]
    refuse_idle(arguments.overrides, len(arguments.files) - len(run_dirs), run_dirs)
    targets = [
        Path(target) if os.path.isdir(target) else read_recipe(target, arguments.overrides, trust=arguments.trust)
        for target in arguments.files
    ]
    if arguments.images is not None and arguments.images < 1:
        raise RecipeError(f"--images: must be at least 1, got {arguments.images}")
    form: Form = "json" if arguments.json else "markdown" if arguments.markdown else "tables"
    if arguments.html or not (arguments.no_page or form != "tables"):  # the page shows predictions, made with torch
        from kd.components import check_torch

        check_torch()
    compare_command(
        targets,
        runs=arguments.runs,
        trust=arguments.trust,
        form=form,
        csv_file=arguments.csv,
        html=arguments.html,
        page=not arguments.no_page,
        images=arguments.images,
        named=arguments.image,
    )
