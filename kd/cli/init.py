"""Look at images and annotations of your own, and write recipes that train on them.

Reads COCO JSON, YOLO outlines, labelme, CVAT, Roboflow, Label Studio, a mask for
each class, and masks in numbers or colours. What is no folder of images and masks
yet is converted once, into the new folder; nothing else is changed.

Example:
    kd init export
    kd init photos annotations.json --out leaves
    kd init photos masks --classes names.txt
"""

import argparse
from pathlib import Path

from kd.cli.status import MEASURING

STATUSES = MEASURING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The export, where the recipes go, and what cannot be seen."""
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of the images, or of the whole export")
    parser.add_argument(
        "annotations", type=Path, nargs="?", metavar="ANNOTATIONS", help="their folder or file, if it is not in IMAGES"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="new folder for the recipes and converted masks (default: IMAGES-kd)"
    )
    parser.add_argument(
        "--form",
        choices=("coco", "labelme", "label-studio", "cvat", "roboflow", "yolo", "one-per-class", "masks"),
        help="the format, if it is not what the files show",
    )
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="names a line, or name,r,g,b or name,number in a CSV file"
    )
    parser.add_argument(
        "--overlap", choices=("area", "order"), help="on top is the smaller object (area) or the later one (order)"
    )
    parser.add_argument("--holes", action="store_true", help="a polygon within another of the same object is a hole")
    parser.add_argument("--imagenet", action="store_true", help="start networks from ImageNet's weights (a download)")
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE", help="weights of a trained teacher, which kd doctor examines"
    )
    parser.add_argument(
        "--network",
        default="teachers.DeepLabV3Plus",
        metavar="PATH",
        help="the network of --teacher (default: teachers.DeepLabV3Plus)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Look, convert and write; then examine a given teacher."""
    from kd.components import check_torch

    check_torch()
    from kd.console import say
    from kd.prepare.init import init
    from kd.prepare.recipes import Given

    images: Path = arguments.images
    out = arguments.out or Path(f"{(images if images.name else images.resolve()).name}-kd")
    given = Given(arguments.network, str(arguments.teacher)) if arguments.teacher else None
    recipe = init(
        images,
        arguments.annotations,
        out,
        form=arguments.form,
        classes=arguments.classes,
        overlap=arguments.overlap,
        holes=arguments.holes,
        imagenet=arguments.imagenet,
        given=given,
        say=say,
    )
    if given:
        from kd.diagnose.doctor import doctor_command
        from kd.recipe import read_recipe

        doctor_command(read_recipe(recipe), runs=Path("runs"))
