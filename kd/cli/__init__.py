"""The command line."""

from kd.cli.main import main

__all__ = ["main"]
