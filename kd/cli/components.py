"""List the components that come with kd, as a recipe writes them.

For each loss it shows what the loss reads: logits, features, either of them, or labels.

Example:
    kd components losses
"""

import argparse

from kd.cli.status import PLAIN

STATUSES = PLAIN
FAMILIES = ("losses", "networks", "datasets", "metrics", "adapters", "schedules", "transforms")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The family."""
    parser.add_argument(
        "family",
        metavar="FAMILY",
        nargs="?",
        choices=FAMILIES,
        help=f"one of {', '.join(FAMILIES)}; without it, all are listed",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print a table for each family; that of the losses shows what they read."""
    from kd.console import print_line, print_lines
    from kd.recipe.shipped.catalogue import entries

    families = [arguments.family] if arguments.family else [family for family in FAMILIES if entries(family)]
    for index, family in enumerate(families):
        if index:
            print_line()
        listed = entries(family)
        if family == "losses":
            print_lines((family, "reads", "what"), listed, whole=2)
        else:
            print_lines((family, "what"), [(entry.name, entry.summary) for entry in listed], whole=1)
