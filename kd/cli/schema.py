"""Print the JSON Schema of recipes, for editors.

Example:
    kd schema > recipe.schema.json
"""

import argparse
import json

from kd.cli.status import PLAIN
from kd.console import print_text

STATUSES = PLAIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> None:
    """Print the schema."""
    from kd.recipe import json_schema

    print_text(json.dumps(json_schema(), indent=2))
