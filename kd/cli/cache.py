"""Compute a recipe's teacher ahead, for every view of every image."""

import argparse

from kd.cli.options import add_recipe as add_arguments
from kd.cli.options import open_recipes

__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> None:
    """Fill the cache."""
    (recipe,) = open_recipes(arguments)
    from kd.components import Maker
    from kd.train.fill_cache import fill_cache

    Maker(recipe).check()
    fill_cache(recipe, runs=arguments.runs)
