"""Time a recipe's training step against its parts, or losses, or networks, on this machine.

Example:
    kd bench shapes/mobilenetv3_kl_cwd.yaml
    kd bench shapes/mobilenetv3_kl_cwd.yaml --all
    kd bench --losses CWD PixelKL
    kd bench --networks students.MobileNetV2UNet --size 512 512
    kd bench --gpu
"""

import argparse
from pathlib import Path

from kd.cli.options import Idle, add_recipe, open_recipes
from kd.cli.status import MEASURING

STATUSES = MEASURING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is timed, at which sizes and how often."""
    add_recipe(parser, optional=True)
    parser.add_argument(
        "--all",
        action="store_true",
        help="with a recipe: time an INT8 teacher, a full cache and the mIoU too",
    )
    parser.add_argument("--rounds", type=int, default=10, help="number of timed rounds (default 10)")
    parser.add_argument(
        "--losses",
        nargs="*",
        metavar="NAME",
        help="time these losses (such as CWD; default all) relative to a teacher's forward pass",
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs=5,
        default=(8, 19, 256, 64, 128),
        metavar=("N", "K", "C", "H", "W"),
        help="images, classes, channels, height and width of the maps for --losses (default 8 19 256 64 128)",
    )
    parser.add_argument(
        "--networks",
        nargs="*",
        metavar="NAME",
        help="measure these networks (such as students.MobileNetV2UNet; default all)",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="height and width of the images for --networks (default 256 256 and 512 512)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="number of torch threads for --networks (default: torch's own); OMP_NUM_THREADS sets a recipe's",
    )
    _add_gpu(parser)
    idle = [
        Idle(("--losses", "--networks", "RECIPE"), beside="--gpu"),
        Idle(("--losses", "RECIPE"), beside="--networks"),
    ]
    idle += [Idle(("RECIPE",), beside="--losses"), Idle(("--all", "--runs"), without=("RECIPE",))]
    idle += [Idle(("--sizes",), without=("--losses",)), Idle(("--size", "--threads"), without=("--networks",))]
    idle += [Idle(("--compiled", "--camvid", "--json"), without=("--gpu",))]
    parser.set_defaults(idle=idle)


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    """The options of --gpu."""
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="time a step of FCN-ResNet50 teaching MobileNetV3-Small ASPP on a GPU: in parts, in the training loop and "
        "in a CUDA graph",
    )
    parser.add_argument(
        "--compiled",
        nargs="?",
        choices=("teacher", "student", "all"),
        const="all",
        default="off",
        help="with --gpu: these networks run compiled, which takes minutes (default all); train.compile sets "
        "a recipe's",
    )
    parser.add_argument("--camvid", type=Path, metavar="ROOT", help="with --gpu: time a whole run on CamVid too")
    parser.add_argument("--json", action="store_true", help="with --gpu: print one JSON object per line")


def run(arguments: argparse.Namespace) -> None:
    """Time what the options name and print the table."""
    from kd.errors import RecipeError

    given = {"--rounds": [arguments.rounds], "--sizes": arguments.sizes, "--size": arguments.size or [1]}
    for name, values in (given | {"--threads": [arguments.threads or 1]}).items():
        if min(values) < 1:
            raise RecipeError(f"kd bench: {name}: must be at least 1, got {min(values)}")
    if arguments.gpu:
        from kd.bench.gpu import gpu_command

        gpu_command(
            camvid=arguments.camvid, compiled=arguments.compiled, rounds=arguments.rounds, as_json=arguments.json
        )
        return
    if arguments.networks is arguments.losses is arguments.recipe is None:
        raise RecipeError("kd bench: no recipe; name one, or give --losses, --networks or --gpu")
    recipes = open_recipes(arguments)
    from kd.bench.losses import Sizes, losses_command
    from kd.bench.networks import bench_networks_command
    from kd.bench.step import bench_command

    if arguments.networks is not None:
        bench_networks_command(
            arguments.networks, size=arguments.size, threads=arguments.threads, rounds=arguments.rounds
        )
    elif arguments.losses is not None:
        losses_command(arguments.losses, Sizes(*arguments.sizes), arguments.rounds)
    else:
        bench_command(recipes[0], runs=arguments.runs, rounds=arguments.rounds, everything=arguments.all)
