"""Find out why a recipe's teacher scores badly: the form or size of its images, or its classes.

Example:
    kd doctor camvid/mobilenetv3_aspp_kl.yaml data.args.root=/data/camvid
"""

import argparse

from kd.cli.options import add_recipe as add_arguments
from kd.cli.options import open_recipes
from kd.cli.status import MEASURING

STATUSES = MEASURING
__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> None:
    """Print what the teacher scores with its images in other forms and its classes in other orders."""
    (recipe,) = open_recipes(arguments)
    from kd.diagnose.doctor import doctor_command

    doctor_command(recipe, runs=arguments.runs)
