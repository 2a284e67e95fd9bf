"""Where a run's numbers come from: versions, hardware, the state of the code; and runs that repeat to the last bit."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kd import distributed
from kd.errors import RecipeError, StorageError
from kd.machine import Precision, hardware, versions
from kd.recipe import Recipe
from kd.storage import read_json


def environment(precision: Precision) -> dict[str, Any]:
    """What `environment.json` says beside the facts of the data."""
    return {
        "command": shlex.join(["kd", *sys.argv[1:]]),
        "versions": versions(),
        "hardware": hardware(precision.device),
        "processes": distributed.world(),
        "threads": torch.get_num_threads(),
        "precision": str(precision),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "git": {"here": git_state(Path.cwd()), "kd": git_state(Path(__file__).parent)},
    }


def git_state(folder: Path) -> str | None:
    """`<commit>`, or `<commit> with changes`, of the checkout that a folder lies in; None without one or git."""
    # A file system monitor is a program that the checkout's own configuration names.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder)]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        changes = subprocess.run(
            [*command, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + (" with changes" if changes.stdout.strip() else "")


def moved_on(run: Path) -> list[str]:
    """A line for every version that has changed since an unfinished run was last worked on."""
    try:
        before = read_json(run / "environment.json")["versions"]
    except (StorageError, KeyError, TypeError):
        return []
    return [
        f"{name} was {before[name]} and is {now}: goes on, but perhaps not with the same bits"
        for name, now in versions().items()
        if before.get(name, now) != now
    ]


@contextmanager
def deterministic(recipe: Recipe) -> Iterator[None]:
    """Let torch use only operations that repeat to the last bit, where the recipe asks for it.

    Raises:
        RecipeError: an operation has no such implementation; names it.
    """
    if not recipe.deterministic:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except (RuntimeError, RecipeError) as error:  # the second: the check before a run met it
        found = re.search(r"(\S+) does not have a deterministic implementation", str(error))
        if found is None:
            raise
        raise RecipeError(
            f"{recipe.at('deterministic')}: deterministic: {found[1]} has no implementation that repeats to the last "
            "bit; replace the component that calls it, or set deterministic: false"
        ) from None
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
