"""Train a teacher, a baseline and a distilled student on drawn shapes, and compare them.

It takes a few minutes on a CPU and downloads nothing. The teacher sees 2,000 labelled images; both students see 100 of
them with labels, and the distilled one the other 1,900 without.

Example:
    kd demo
"""

import argparse

from kd.cli.options import add_runs as add_arguments
from kd.cli.status import TRAINING

__all__ = ["STATUSES", "add_arguments", "run"]

STATUSES = TRAINING
THREE_SEEDS = (
    "Three seeds, as measured: teacher 76.2 %, baseline 50.5 ± 1.7 %, student 68.0 ± 1.0 %: +17.4 ± 3.3 points "
    "(docs/results/shapes.md)"
)


def run(arguments: argparse.Namespace) -> None:
    """Train and compare the shipped recipe `shapes/mobilenetv3_kl_cwd.yaml`."""
    from kd.components import check_torch
    from kd.console import print_line
    from kd.recipe import read_recipe
    from kd.recipe.shipped.recipes import shipped_recipes

    check_torch()
    from kd.compare import compare_command
    from kd.train.session import run_recipe

    recipe = read_recipe(shipped_recipes() / "shapes" / "mobilenetv3_kl_cwd.yaml")
    run_recipe(recipe, runs=arguments.runs, baseline=True)
    compare_command([recipe], runs=arguments.runs)
    print_line(THREE_SEEDS)
