"""Train a teacher, a baseline and a distilled student on drawn shapes, and compare them.

It takes a few minutes on a CPU and downloads nothing.

Example:
    kd demo
"""

import argparse

from kd.cli.options import add_runs as add_arguments
from kd.cli.status import TRAINING

__all__ = ["STATUSES", "add_arguments", "run"]

STATUSES = TRAINING


def run(arguments: argparse.Namespace) -> int:
    """Train and compare the shipped recipe `shapes/mobilenetv3_kl_cwd.yaml`."""
    from kd.components import check_torch
    from kd.recipe import read_recipe
    from kd.recipe.shipped import shipped_recipes

    check_torch()
    from kd.compare import compare_command
    from kd.train.session import run_recipe

    recipe = read_recipe(shipped_recipes() / "shapes" / "mobilenetv3_kl_cwd.yaml")
    run_recipe(recipe, runs=arguments.runs, baseline=True)
    return compare_command([recipe], runs=arguments.runs)
