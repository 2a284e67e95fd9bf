"""Cut large images and their masks into tiles of one size.

Writes images/ and masks/ of a new folder that kd.data.Folders reads. Images of up to
a gigapixel are cut, and .npy arrays of any size.

Example:
    kd tiles slides annotations --out tiles
    kd tiles slides annotations --out tiles --size 512 768 --mask-suffix _mask
"""

import argparse
from pathlib import Path

from kd.cli.options import Idle
from kd.cli.status import MEASURING

STATUSES = MEASURING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders, and the size of a tile."""
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of the images")
    parser.add_argument("masks", type=Path, nargs="?", metavar="MASKS", help="folder of the masks, if there are any")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new folder; it must not exist")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=[1024, 1024],
        metavar=("H", "W"),
        help="height and width of a tile in pixels (default: 1024 1024)",
    )
    parser.add_argument(
        "--mask-suffix", default="", metavar="TEXT", help="an ending of the masks' names, such as _mask"
    )
    parser.set_defaults(idle=[Idle(("--mask-suffix",), without=("MASKS",))])


def run(arguments: argparse.Namespace) -> None:
    """Cut."""
    from kd.console import say
    from kd.prepare.tiles import cut_command

    height, width = arguments.size
    cut_command(
        arguments.images,
        arguments.masks,
        arguments.out,
        size=(height, width),
        mask_suffix=arguments.mask_suffix,
        say=say,
    )
