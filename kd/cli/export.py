"""Write the network of a finished run as a file for another runtime, checked on real images.

Example:
    kd export runs/mobilenetv3_kl_cwd-0123abcd/seed0 --out exported
    kd export shapes/mobilenetv3_kl_cwd.yaml --size 512 1024 --argmax
    kd export shapes/mobilenetv3_kl_cwd.yaml --to openvino --int8 --max-drop 0.5
"""

import argparse
from pathlib import Path

from kd.cli.options import Idle, add_overrides, add_runs, add_trust, ready
from kd.cli.status import MEASURING

STATUSES = MEASURING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the form of the file, and where it goes."""
    parser.add_argument("recipe", metavar="RUN", help="a run directory, or a recipe whose first finished seed is taken")
    add_overrides(parser)
    parser.add_argument("--to", default="onnx", metavar="FORMAT", help="onnx (default), openvino or pt2")
    parser.add_argument(
        "--out", type=Path, default=Path("exported"), metavar="DIR", help="new folder for the files (default: exported)"
    )
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="height and width of the images (default: the recipe's)"
    )
    parser.add_argument("--dynamic", action="store_true", help="take batches and images of any size")
    parser.add_argument("--argmax", action="store_true", help="give class indices in place of logits")
    parser.add_argument("--uint8", action="store_true", help="take pixels from 0 to 255 in place of float32 in [0, 1]")
    parser.add_argument("--int8", action="store_true", help="compute in INT8, calibrated on training images")
    parser.add_argument(
        "--max-drop", type=float, default=1.0, metavar="POINTS", help="mIoU that INT8 may lose (default 1.0 points)"
    )
    add_trust(parser)
    add_runs(parser)
    parser.set_defaults(idle=[Idle(("--max-drop",), without=("--int8",))])


def run(arguments: argparse.Namespace) -> None:
    """Export and check."""
    ready(arguments.files, arguments.overrides)
    from kd.console import say
    from kd.deploy.export.export import export

    export(
        arguments.files[0],
        arguments.out,
        arguments.overrides,
        to=arguments.to,
        size=tuple(arguments.size) if arguments.size else None,
        dynamic=arguments.dynamic,
        argmax=arguments.argmax,
        uint8=arguments.uint8,
        int8=arguments.int8,
        max_drop=arguments.max_drop,
        runs=arguments.runs,
        trust=arguments.trust,
        say=say,
    )
