"""The files that describe a run: its inputs, its recipe and its environment."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kd import distributed
from kd.errors import StorageError
from kd.files.checkout import commit_of, state_of_kd
from kd.files.storage import sweep, write_atomic, write_json
from kd.machine import hardware, versions
from kd.parts.assemble import Parts
from kd.recipe import to_yaml
from kd.runs import ResultInputs, read_environment
from kd.train.provenance.inputs import in_result
from kd.train.provenance.record import Record
from kd.types import IGNORE


@dataclass(frozen=True)
class Description:
    """What describes a run, held in memory: it is written again if the directory is removed while the run trains.

    Attributes:
        record: of the inputs; names the run directory.
        recipe: the content of `recipe.yaml`.
        environment: the content of `environment.json`.
    """

    record: Record
    recipe: bytes
    environment: dict[str, Any]

    def write(self) -> None:
        """Remove the temporary files of a killed process, and write the description."""
        run_dir = self.record.run_dir
        sweep(run_dir)
        self.record.write()  # first: a run with a recipe and without inputs is one of version 0.2 or earlier
        write_atomic(run_dir / "recipe.yaml", self.recipe)
        write_json(run_dir / "environment.json", self.environment)

    def finished(self, step: int) -> ResultInputs:
        """The inputs of the run, which ends at a step, as its result records them."""
        return in_result(self.record.finish(step))

    @property
    def is_lost(self) -> bool:
        """Whether the files are gone."""
        return not (self.record.run_dir / "recipe.yaml").is_file()


def describe(parts: Parts, record: Record) -> Description:
    """The description of a run that starts now."""
    return Description(record, to_yaml(parts.recipe).encode(), _environment(parts))


def changed_environment(run_dir: Path) -> list[str]:
    """A line for every version and commit that has changed since an unfinished run was last trained."""
    try:
        before = read_environment(run_dir)
    except StorageError:  # the first start, or damaged: it is written anew
        return []
    lines = [
        f"{name} was {before.versions[name]} and is now {now}: perhaps not bit-identical to an uninterrupted run"
        for name, now in versions().items()
        if before.versions.get(name, now) != now
    ]
    places = {"here": "the commit in this folder", "kd": "the commit of kd"}
    return lines + [
        f"{places[place]} was {before.git.get(place) or 'none'} and is now {now or 'none'}"
        for place, now in _git().items()
        if before.git.get(place, now) != now
    ]


def _git() -> dict[str, str | None]:
    return {"here": commit_of(Path.cwd()), "kd": state_of_kd()}


def _environment(parts: Parts) -> dict[str, Any]:
    """The environment of a run: versions, hardware, the state of the code, and the facts of the data."""
    return {
        "command": shlex.join(["kd", *sys.argv[1:]]),
        "versions": versions(),
        "hardware": hardware(parts.precision.device),
        "found": parts.recipe.found,
        "processes": distributed.world(),
        "threads": torch.get_num_threads(),
        "precision": str(parts.precision),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "git": _git(),
        "in_channels": parts.train.in_channels,
        "classes": list(parts.train.class_names),
        "colors": [list(map(int, color)) for color in parts.train.colors],
        "ignore": IGNORE,
    }
