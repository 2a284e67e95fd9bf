"""Print the JSON Schema of recipes, for editors.

Example:
    kd schema > recipe.schema.json
"""

import argparse
import json

from kd.cli.status import PLAIN

STATUSES = PLAIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> None:
    """Print the schema."""
    from kd.recipe import json_schema

    print(json.dumps(json_schema(), indent=2))
