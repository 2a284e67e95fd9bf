"""Show each term's taps, shapes, adapter, value and gradient on one batch.

Example:
    kd inspect shapes/mobilenetv3_kl_cwd.yaml
"""

import argparse

from kd.cli.options import add_recipe as add_arguments
from kd.cli.options import open_recipes
from kd.cli.status import MEASURING

STATUSES = MEASURING
__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> None:
    """Print both networks' taps and the table of terms."""
    (recipe,) = open_recipes(arguments)
    from kd.diagnose.inspect import inspect_command

    inspect_command(recipe, runs=arguments.runs)
