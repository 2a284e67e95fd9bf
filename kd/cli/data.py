"""Show a recipe's training images as they are augmented, and what their labels hold.

Writes a page and a PNG with images beside their labels, or looks for defects. No network is built.

Example:
    kd data shapes/mobilenetv3_kl_cwd.yaml
    kd data shapes/mobilenetv3_kl_cwd.yaml --check
    kd data shapes/mobilenetv3_kl_cwd.yaml data.crop=[48,48] --out crops.html
"""

import argparse
from pathlib import Path

from kd.cli.options import Idle, add_overrides, add_trust, open_recipes
from kd.cli.status import PLAIN

STATUSES = (*PLAIN, 3)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, and the page."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe file, or one that comes with kd")
    add_overrides(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page; the PNG is beside it (default: <recipe>-data.html)"
    )
    parser.add_argument("--check", action="store_true", help="list defects of the images and masks; write nothing")
    parser.add_argument("--images", type=int, default=24, metavar="N", help="images to show (default: 24)")
    add_trust(parser)
    parser.set_defaults(idle=[Idle(("--out", "--images"), beside="--check")])


def run(arguments: argparse.Namespace) -> int:
    """Print the table of classes and write the page, or print the defects."""
    (recipe,) = open_recipes(arguments)
    if arguments.check:
        from kd.prepare.defects.find import check_command

        return check_command(recipe)
    from kd.prepare.sheet import data_command

    data_command(recipe, out=arguments.out, images=arguments.images)
    return 0
