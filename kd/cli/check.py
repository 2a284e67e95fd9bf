"""Check recipes without training: their keys, their components, and one small batch.

Each mistake is a line with its file, line and column.

Example:
    kd check shapes/mobilenetv3_kl_cwd.yaml
    kd check shapes/*.yaml --plan
"""

import argparse

from kd.cli.options import add_files, open_recipes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipes, and how far the check goes."""
    add_files(parser, "RECIPE", "recipe files; `path=value` overrides all of them")
    parser.add_argument(
        "--plan", action="store_true", help="measure for 20 s what the runs, the baseline's too, will cost"
    )
    parser.add_argument(
        "--imports", action="store_true", help="only list the components that the recipes name; nothing is imported"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each recipe that passes, or what the recipes would import."""
    if arguments.imports:
        from kd.recipe import imports

        for file in arguments.files:
            print("\n".join(imports(file)))
        return
    recipes = open_recipes(arguments)
    from kd.diagnose.plan import lines, plan
    from kd.parts.dry_run import check_recipe

    for recipe, file in zip(recipes, arguments.files, strict=True):
        for line in check_recipe(file, arguments.overrides, trust=arguments.trust, runs=arguments.runs):
            print(line)
        if arguments.plan:
            print("\n".join(lines(plan(recipe, runs=arguments.runs, baseline=True))))
