"""Score trained networks on a split of their data, or on other data.

Example:
    kd evaluate shapes/mobilenetv3_kl_cwd.yaml --split test
    kd evaluate runs/a-0123abcd/seed0 --csv images.csv --predictions masks
    kd evaluate exported/model.onnx data.args.root=data/camvid
    kd evaluate shapes/mobilenetv3_kl_cwd.yaml evaluate.flip=true "evaluate.metrics=[{use: kd.metrics.BoundaryIoU}]"
"""

import argparse
from pathlib import Path

from kd.cli.options import Idle, add_files, add_recipe_of_file
from kd.cli.status import MEASURING

STATUSES = MEASURING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is scored on which images, and the form of the output."""
    add_files(
        parser,
        "TARGET",
        "recipes, run directories, files of networks, and `path=value`: how they are scored",
    )
    parser.add_argument(
        "--split", choices=("train", "val", "test"), default="val", help="the images: train, val (default) or test"
    )
    add_recipe_of_file(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the scores of each image")
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="write the predicted masks, as PNG files")
    parser.add_argument("--overwrite", action="store_true", help="replace predicted masks that are already there")
    parser.set_defaults(idle=[Idle(("--overwrite",), without=("--predictions",))])


def run(arguments: argparse.Namespace) -> int:
    """Score the runs and print their tables."""
    from kd.evaluation.targets import find

    found = find(arguments.files, arguments.overrides, recipe=arguments.of, runs=arguments.runs, trust=arguments.trust)
    from kd.components import check_torch

    check_torch()
    from kd.evaluation.command import evaluate_command

    return evaluate_command(
        found,
        arguments.split,
        as_json=arguments.json,
        csv_file=arguments.csv,
        predictions=arguments.predictions,
        overwrite=arguments.overwrite,
    )
