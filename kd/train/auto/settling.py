"""What a machine decides for a run before it starts; its directory records it, so that a resume does not repeat it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from kd import distributed
from kd.errors import StorageError
from kd.machine import hardware
from kd.parts.assemble import Parts, in_micro_batches
from kd.runs import read_environment, run_directory
from kd.train.auto.compiled import found_compile
from kd.train.auto.fit import found_accumulate

SEARCHES: dict[str, Callable[[Parts], tuple[Any, str]]] = {"accumulate": found_accumulate, "compile": found_compile}


def settled_outside_run(parts: Parts, runs: Path, keys: Iterable[str] = SEARCHES) -> Parts:
    """As `settled`, for a command that measures what the run of the first seed would do."""
    recipe = parts.recipe
    return settled(parts, run_directory(recipe, runs, recipe.train.seeds[0]), {}, keys)


def settled(parts: Parts, run_dir: Path, found: dict[str, dict[str, Any]], keys: Iterable[str] = SEARCHES) -> Parts:
    """The parts of a run with a value for each `auto` of `train`; a line in the notes states what was measured.

    Args:
        parts: assembled, dry-run, and met with real images.
        run_dir: may record what an earlier session found.
        found: by id of the recipe, what this session has found; extended.
        keys: of `train`, that are looked at.

    Raises:
        RecipeError: a step does not fit into memory.
    """
    recipe = parts.recipe
    left = [key for key in keys if getattr(recipe.train, key) == "auto"]
    if not left:
        return parts
    known = found.get(recipe.id) or distributed.first(lambda: recorded(run_dir, parts.precision.device))
    for key in left:
        if key not in known:
            value, line = SEARCHES[key](parts)
            parts.notes.append(line)
            known = known | {key: value}
        parts = in_micro_batches(parts, parts.recipe.with_found(**{key: known[key]}))
    found[recipe.id] = known
    return parts


def recorded(run_dir: Path, device: torch.device) -> dict[str, Any]:
    """What an earlier session of an unfinished run found on a machine like this one."""
    try:
        environment = read_environment(run_dir)
    except StorageError:  # a new run, or a damaged file: it is measured again
        return {}
    return environment.found if environment.hardware == hardware(device) else {}
