"""The command line, in this process or in a separate one."""

import subprocess
import sys
from typing import Any

from kd.cli import main


def kd(*arguments: object) -> int:
    """Run a command in this process; its exit status."""
    return main([str(argument) for argument in arguments])


def process(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    """Start a command in a separate process."""
    command = [sys.executable, "-m", "kd", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
