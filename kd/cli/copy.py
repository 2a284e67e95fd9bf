"""Copy a recipe that comes with kd into the current folder."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe."""
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="such as shapes/mobilenetv3_kl_cwd.yaml; none lists all"
    )


def run(arguments: argparse.Namespace) -> None:
    """Copy it, or list the recipes."""
    from kd.recipe.copying import copy_recipe
    from kd.recipe.shipped import list_recipes

    if arguments.recipe is None:
        print("\n".join(list_recipes()))
    else:
        print(copy_recipe(arguments.recipe, Path.cwd()))
