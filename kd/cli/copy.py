"""List the recipes that come with kd, or copy one with its teacher's recipe and their Python files.

The Python files are those that the recipes name and what these import beside them.
The JSON Schema for editors is copied too. Weights, class maps and lists are not.
Nothing is overwritten.

Example:
    kd copy
    kd copy shapes/mobilenetv3_kl_cwd.yaml
"""

import argparse
from pathlib import Path

from kd.cli.status import PLAIN

STATUSES = PLAIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, and where it goes."""
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="such as shapes/mobilenetv3_kl_cwd.yaml; without it, all are listed"
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        default=Path(),
        help="destination (default: the current folder); shapes/x.yaml becomes FOLDER/shapes/x.yaml",
    )


def run(arguments: argparse.Namespace) -> None:
    """List all, or copy one and print where the copy is."""
    from kd.console import print_line, print_lines
    from kd.recipe.copying import copy_recipe, summaries
    from kd.recipe.shipped.recipes import list_studies

    if arguments.recipe is None:
        print_lines(("recipe", "data", "what", "result"), summaries(), whole=2)
        print_line(f"studies: {', '.join(list_studies())}; kd study NAME --list shows the runs of one")
    else:
        print_line(str(copy_recipe(arguments.recipe, arguments.folder)))
