"""Compute the teacher's outputs before training, for every view of every image.

The recipe needs a `cache` section. Outputs that are already in the cache are checked and kept.

Example:
    kd cache camvid/mobilenetv3_aspp_kl.yaml "cache={views: 4}" data.args.root=/data/camvid
"""

import argparse

from kd.cli.options import add_recipe as add_arguments
from kd.cli.options import open_recipes
from kd.cli.status import TRAINING

STATUSES = TRAINING
__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> None:
    """Fill the cache."""
    (recipe,) = open_recipes(arguments)
    from kd.train.fill_cache import fill_cache

    fill_cache(recipe, runs=arguments.runs)
