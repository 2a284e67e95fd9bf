"""Make a data set of images without labels: the masks of a trained network, where it is sure.

Writes images, masks (255 where the network is not sure) and confidence maps; kd.data.Folders reads the result.

Example:
    kd label runs/teacher-0123abcd/seed0 photos --out labelled
    kd label runs/teacher-0123abcd/seed0 photos --out labelled --per-class 60% evaluate.flip=true
"""

import argparse
from pathlib import Path

from kd.cli.options import add_runs, add_trust, ready
from kd.cli.status import MEASURING

STATUSES = MEASURING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the images, and which pixels are kept."""
    parser.add_argument("recipe", metavar="RUN", help="a run directory, or a recipe whose first finished seed is taken")
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="image files, folders, patterns in quotes, and `path=value`"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder of the data set; it must not exist"
    )
    rules = parser.add_mutually_exclusive_group()
    rules.add_argument(
        "--min-confidence",
        type=_share,
        default=None,
        metavar="P",
        help="keep pixels whose class has at least this probability (default: 0.9)",
    )
    rules.add_argument(
        "--per-class", type=_share, metavar="SHARE", help="keep this share of each class's pixels, the surest first"
    )
    parser.set_defaults(overrides=[])
    add_trust(parser)
    add_runs(parser)


def run(arguments: argparse.Namespace) -> int:
    """Label, and report the images that could not be read."""
    ready(arguments.files, arguments.overrides)
    from kd.deploy.label import Rule, label_command

    least = arguments.min_confidence
    return label_command(
        arguments.files[0],
        arguments.inputs,
        arguments.out,
        arguments.overrides,
        runs=arguments.runs,
        trust=arguments.trust,
        rule=Rule(0.9 if least is None and arguments.per_class is None else least, arguments.per_class),
    )


def _share(text: str) -> float:
    """A share written 60% or 0.6."""
    share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1 (or 0% and 100%)")
    return share


_share.__name__ = "share"  # argparse names it: invalid share value: 'x'
