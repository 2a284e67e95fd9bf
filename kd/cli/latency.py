"""Measure networks, trained or not, and exported files in the runtimes of this machine.

Example:
    kd latency students.MobileNetV3SmallASPP students.MobileNetV2UNet --size 360 480 --fps 30 --max-mb 3
    kd latency runs/mobilenetv3_kl_cwd-0123abcd/seed0 exported --threads 1 --batch 8
"""

import argparse

from kd.cli.options import add_files, ready
from kd.cli.status import MEASURING

STATUSES = MEASURING
RUNTIMES = ("torch", "compiled", "onnx", "openvino")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, how, and the budget."""
    add_files(parser, "NAME", "runs, recipes, weights, ONNX or OpenVINO files or folders, students.MobileNetV2UNet …")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="size of the images (default: the recipe's, or 512 512)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of every runtime (default: all cores)")
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="also measure batches of B images")
    parser.add_argument(
        "--classes", type=int, default=21, metavar="K", help="classes of networks that no recipe names (default 21)"
    )
    parser.add_argument("--rounds", type=int, default=30, help="number of timed calls (default 30)")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, metavar="NAME", help=f"of {', '.join(RUNTIMES)}")
    parser.add_argument(
        "--int8", action="store_true", help="also measure networks in INT8, in ONNX Runtime and OpenVINO"
    )
    parser.add_argument("--fps", type=float, metavar="F", help="budget: the images per second that a row must reach")
    parser.add_argument("--max-mb", type=float, metavar="MB", help="budget: largest size of the file, in 10⁶ bytes")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the table."""
    from kd.errors import RecipeError

    given = {
        "--size": arguments.size or [64],
        "--threads": [arguments.threads if arguments.threads is not None else 1],
        "--batch": [arguments.batch],
        "--classes": [arguments.classes],
        "--rounds": [arguments.rounds],
    }
    for name, values in given.items():
        smallest = 64 if name == "--size" else 1
        if min(values) < smallest:
            raise RecipeError(f"kd latency: {name}: must be at least {smallest}, got {min(values)}")
    for name, value in (("--fps", arguments.fps), ("--max-mb", arguments.max_mb)):
        if value is not None and not 0 < value < float("inf"):
            raise RecipeError(f"kd latency: {name}: must be above 0, got {value:g}")
    ready(arguments.files, arguments.overrides)
    from kd.deploy.latency.latency import latency_command

    latency_command(
        arguments.files,
        arguments.overrides,
        runs=arguments.runs,
        trust=arguments.trust,
        size=tuple(arguments.size) if arguments.size else None,
        threads=arguments.threads,
        batch=arguments.batch,
        classes=arguments.classes,
        rounds=arguments.rounds,
        runtimes=arguments.runtimes,
        int8=arguments.int8,
        fps=arguments.fps,
        max_mb=arguments.max_mb,
        as_json=arguments.json,
    )
