"""Print versions, hardware, and the precision that `auto` means on this machine.

Example:
    kd env
"""

import argparse

from kd.cli.status import PLAIN
from kd.console import print_text

STATUSES = PLAIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> None:
    """Print the description of this machine."""
    from kd.components.build import check_torch

    check_torch()
    from kd.machine import describe

    print_text(describe())
