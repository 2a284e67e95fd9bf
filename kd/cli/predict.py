"""Predict images with a trained network.

Writes index masks, and on request colour masks, overlays and probabilities.

Example:
    kd predict runs/mobilenetv3_kl_cwd-0123abcd/seed0 photos --out predictions
    kd predict shapes/mobilenetv3_kl_cwd.yaml photos/*.jpg more/7.png --overlay evaluate.flip=true
    kd predict exported/model.onnx photos
"""

import argparse
from pathlib import Path

from kd.cli.options import add_recipe_of_file, add_runs, add_trust, ready
from kd.cli.status import MEASURING

STATUSES = MEASURING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the images, and what is written of each."""
    parser.add_argument(
        "recipe",
        metavar="RUN",
        help="a run directory, a recipe (its first finished seed), or a file of a network",
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="images, videos, folders, patterns in quotes, and `path=value`",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("predictions"), metavar="DIR", help="folder to write to (default: predictions)"
    )
    parser.add_argument("--color", action="store_true", help="also write masks in the colours of the classes")
    parser.add_argument("--overlay", action="store_true", help="also write each image under its mask")
    parser.add_argument(
        "--probabilities", action="store_true", help="also write the probabilities of all classes (.npz, float16)"
    )
    parser.add_argument(
        "--with",
        dest="others",
        action="append",
        default=[],
        metavar="RUN",
        help="predict together with this run, by the mean of the probabilities; may be given several times",
    )
    parser.add_argument(
        "--tiles", type=int, nargs=2, metavar=("H", "W"), help="predict at the images' own sizes, in tiles of this size"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are already there")
    add_recipe_of_file(parser)
    parser.set_defaults(overrides=[])
    add_trust(parser)
    add_runs(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict, and report the images that could not be read."""
    ready(arguments.files, arguments.overrides)
    from kd.deploy.prediction.predict import predict_command

    kinds = ["masks", *(kind for kind in ("color", "overlay", "probabilities") if getattr(arguments, kind))]
    return predict_command(
        [arguments.files[0], *arguments.others],
        arguments.inputs,
        arguments.out,
        arguments.overrides,
        recipe=arguments.of,
        runs=arguments.runs,
        trust=arguments.trust,
        kinds=kinds,
        overwrite=arguments.overwrite,
        tiles=tuple(arguments.tiles) if arguments.tiles else None,
    )
