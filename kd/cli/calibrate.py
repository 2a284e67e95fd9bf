"""Propose weights for the terms from the size of their gradients.

Prints a fragment to paste into the recipe.

Example:
    kd calibrate shapes/mobilenetv3_kl_cwd.yaml --ratio 0.5
"""

import argparse

from kd.cli.options import add_recipe, open_recipes
from kd.cli.status import MEASURING

STATUSES = MEASURING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, the number of batches, and the ratio."""
    add_recipe(parser)
    parser.add_argument("--batches", type=int, default=4, help="number of batches to average over (default 4)")
    parser.add_argument(
        "--ratio",
        type=float,
        default=1.0,
        help="norm of a weighted term's gradient, divided by that of the supervised loss (default 1)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the gradients and a fragment of a recipe with the proposed weights."""
    (recipe,) = open_recipes(arguments)
    from kd.diagnose.calibrate import calibrate_command

    calibrate_command(recipe, runs=arguments.runs, batches=arguments.batches, ratio=arguments.ratio)
