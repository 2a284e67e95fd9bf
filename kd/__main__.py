"""The command `kd`, also as `python -m kd`: no module of the current folder may come before Python's own.

Python puts the current folder first for `python -m`, and for an empty entry in PYTHONPATH: a `yaml.py` of a stranger's
folder would be imported. Only the command `kd` is safe from the start; `python -m kd` is once this file runs.
"""

import os
import sys


def main() -> int:
    """Take the current folder off the import path, here and in all child processes; then run one command."""
    sys.path[:] = _without_current_folder(sys.path)
    os.environ["PYTHONSAFEPATH"] = "1"
    from kd.cli import main as run_command

    return run_command()


def _without_current_folder(path: list[str]) -> list[str]:
    """The import path; the current folder stays where PYTHONPATH names it, and where it is an installed package's."""
    try:
        here = os.path.abspath(os.curdir)
    except OSError:  # it has been removed
        return path
    named = {os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    ours, library = os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.path.dirname(os.__file__)
    if here in {*named, ours} or library not in path:
        return path
    standard = path.index(library)
    return [entry for entry in path[:standard] if os.path.abspath(entry) != here] + path[standard:]


if __name__ == "__main__":
    sys.exit(main())
