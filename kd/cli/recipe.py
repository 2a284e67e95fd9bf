"""Print the recipe that a trained network's file was made by, with its scores, data and versions.

Example:
    kd recipe student.safetensors
    kd recipe exported/model.onnx > again.yaml
"""

import argparse
from pathlib import Path

from kd.cli.status import PLAIN

STATUSES = (*PLAIN, 5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file."""
    what = "weights, an exported file or its folder, a page, or a run directory"
    parser.add_argument("file", metavar="FILE", type=Path, help=what)


def run(arguments: argparse.Namespace) -> None:
    """Print a recipe to run; of a page, those of all its runs."""
    from kd.console import print_text
    from kd.runs import as_recipe, read_origins

    print_text("\n---\n".join(map(as_recipe, read_origins(arguments.file))))
