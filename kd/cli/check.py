"""Check recipes without training: their keys, their components, and one small batch.

Each mistake is a line with its file, line and column.

Example:
    kd check shapes/mobilenetv3_kl_cwd.yaml
    kd check shapes/*.yaml --plan
"""

import argparse

from kd.cli.options import Idle, add_files, open_recipes
from kd.cli.status import MEASURING
from kd.console import print_line

STATUSES = MEASURING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipes, and how far the check goes."""
    add_files(parser, "RECIPE", "recipe files; `path=value` overrides all of them")
    parser.add_argument(
        "--plan", action="store_true", help="measure for 20 s what the runs will cost, including the baseline"
    )
    parser.add_argument(
        "--imports", action="store_true", help="only list the components that the recipes name; nothing is imported"
    )
    parser.set_defaults(idle=[Idle(("--plan", "--runs"), beside="--imports")])


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each recipe that passes, or what the recipes would import."""
    if arguments.imports:
        from kd.recipe import imports
        from kd.recipe.overrides import refuse_idle

        refuse_idle(arguments.overrides, len(arguments.files))
        for file in arguments.files:
            for component in imports(file, arguments.overrides):
                print_line(component)
        return
    recipes = open_recipes(arguments)
    from kd.diagnose.check import check_recipe

    for recipe in recipes:
        for line in check_recipe(recipe, runs=arguments.runs):
            print_line(line)
        if arguments.plan:
            from kd.diagnose.plan import lines, plan
            from kd.train.session import session

            with session(recipe, runs=arguments.runs) as opened:
                for line in lines(plan(recipe, opened, baseline=True)):
                    print_line(line)
