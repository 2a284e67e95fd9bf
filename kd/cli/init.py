"""Look at images and annotations of your own, and write recipes that train on them.

Reads COCO JSON, YOLO outlines, labelme, CVAT, Roboflow, Label Studio, a mask for
each class, and masks in numbers or colours. What is no folder of images and masks
yet is converted once, into the new folder; nothing else is changed.

Example:
    kd init export
    kd init photos annotations.json --out leaves
    kd init photos masks --classes names.txt
    kd init export --teacher best.pt --network "{use: teachers.DeepLabV3Plus, args: {backbone: resnet18}}"
"""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

from kd.cli.options import Idle
from kd.cli.status import MEASURING
from kd.errors import RecipeError, fail

STATUSES = MEASURING
NETWORK = "{use: teachers.DeepLabV3Plus}"


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
        "--classes",
        type=Path,
        metavar="FILE",
        help="one name per line, or rows of name,r,g,b or name,number in a CSV file",
    )
    parser.add_argument(
        "--overlap", choices=("area", "order"), help="on top is the smaller object (area) or the later one (order)"
    )
    parser.add_argument("--holes", action="store_true", help="a polygon within another of the same object is a hole")
    parser.add_argument("--imagenet", action="store_true", help="start networks from ImageNet's weights (a download)")
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="FILE",
        help="a trained teacher: a file of weights, a run directory, or its recipe; kd doctor examines it",
    )
    parser.add_argument(
        "--network",
        default=NETWORK,
        metavar="YAML",
        help=f"the network of --teacher's weights (default: {NETWORK})",
    )
    parser.set_defaults(idle=[Idle(("--network",), without=("--teacher",))])


def run(arguments: argparse.Namespace) -> None:
    """Look, convert and write; a given teacher is examined before the folder appears."""
    from kd.components import check_torch

    check_torch()
    from kd.console import say
    from kd.prepare.init import init

    images: Path = arguments.images
    out = arguments.out or Path(f"{images.resolve().name}-kd")
    given = _teacher(arguments.teacher, arguments.network, out) if arguments.teacher else None
    init(
        images,
        arguments.annotations,
        out,
        form=arguments.form,
        classes=arguments.classes,
        overlap=arguments.overlap,
        holes=arguments.holes,
        imagenet=arguments.imagenet,
        given=given,
        examine=partial(_examine, out) if given else lambda recipe, root: None,
        say=say,
    )


def _teacher(file: Path, network: str, out: Path) -> dict[str, Any]:
    """A trained teacher as a recipe in the folder `out` names it."""
    from kd.recipe import yaml12

    is_run, is_recipe = file.is_dir(), file.suffix in (".yaml", ".yml")
    if network != NETWORK and (is_run or is_recipe):
        raise RecipeError(
            f"kd init: --network has no effect with {'a run' if is_run else 'a recipe'} as --teacher; leave it out"
        )
    if is_run:
        return {"run": file.as_posix()}
    if is_recipe:
        return {"recipe": Path(os.path.relpath(file, out)).as_posix()}
    node = yaml12.compose(network, "<--network>")
    content, _, mistakes = yaml12.plain(node) if node else (None, {}, [])
    fail(mistakes)
    use = content if isinstance(content, dict) else {"use": content}
    return {**use, "weights": file.as_posix()}


def _examine(out: Path, recipe: Path, root: Path) -> None:
    """Run `kd doctor`; a recipe's images may not be in their place yet."""
    from kd.diagnose.doctor import doctor_command
    from kd.recipe import read_recipe
    from kd.recipe.yaml12 import in_flow

    opened = read_recipe(recipe, [f"data.args.root={in_flow(root.as_posix())}"])
    doctor_command(opened, runs=Path("runs"), name=out / recipe.name)
