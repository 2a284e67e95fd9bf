"""Print the JSON Schema of recipes, for editors; or of what a command prints with `--json`.

Example:
    kd schema > recipe.schema.json
    kd schema compare > compare.schema.json
"""

import argparse
import json

from kd.cli.status import PLAIN
from kd.console import print_text

STATUSES = PLAIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the schema is of."""
    parser.add_argument(
        "of",
        nargs="?",
        default="recipe",
        choices=("recipe", "compare", "list", "diff", "evaluate", "latency", "study"),
        help="recipes (the default), or the JSON of this command",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the schema."""
    if arguments.of == "recipe":
        from kd.recipe import json_schema

        print_text(json.dumps(json_schema(), indent=2))
        return
    from pydantic import BaseModel

    from kd.compare import output as compare
    from kd.deploy.latency.output import LatencyOutput
    from kd.evaluation.output import EvaluateOutput
    from kd.study.output import StudyOutput

    models: dict[str, type[BaseModel]] = {
        "compare": compare.CompareOutput,
        "list": compare.ListOutput,
        "diff": compare.DiffOutput,
        "evaluate": EvaluateOutput,
        "latency": LatencyOutput,
        "study": StudyOutput,
    }
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    print_text(json.dumps(schema | models[arguments.of].model_json_schema(mode="serialization"), indent=2))
