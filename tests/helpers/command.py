"""The command line, in this process or in a separate one."""

import os
import subprocess
import sys
from typing import Any

from kd.cli import main

SECONDS = 2.0  # of CPU time, for a small command; about 0.4 on an idle machine
WITHOUT_TORCH = """\
import sys
from kd.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
heavy = [name for name in ("torch", "torchvision", "matplotlib") if name in sys.modules]
sys.exit(f"imported {', '.join(heavy)}" if heavy else status)
"""


def kd(*arguments: object) -> int:
    """Run a command in this process; its exit status."""
    return main([str(argument) for argument in arguments])


def process(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    """Start a command in a separate process."""
    command = [sys.executable, "-m", "kd", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def check_small(call: str, exit_status: int = 0) -> None:
    """Run a command as a process that may import neither torch nor matplotlib, and must be quick."""
    done, seconds = _timed(WITHOUT_TORCH, *call.split())
    assert (done.returncode, done.stderr.count("\n")) == (exit_status, 1 if exit_status else 0), done.stderr
    if seconds > SECONDS:  # a slow machine, or a first call, which compiles the code: compare it with torch's import
        assert _timed(WITHOUT_TORCH, *call.split())[1] < _timed("import torch")[1] / 2


def _timed(code: str, *arguments: str) -> "tuple[subprocess.CompletedProcess[str], float]":
    """Run Python code in a process of its own; the process, and its seconds of CPU time."""
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    after = os.times()
    return done, after.children_user + after.children_system - before.children_user - before.children_system
