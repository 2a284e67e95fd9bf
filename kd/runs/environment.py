"""Where a run was trained: `environment.json`."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kd.files.checked import STRICT, checked
from kd.files.manifest import read_verified

ENVIRONMENT = "environment.json"

_Level = Annotated[int, Field(ge=0, le=255)]


class Environment(BaseModel):
    """The keys that kd reads again; the file has more, for people."""

    model_config = ConfigDict({**STRICT, "extra": "allow"})

    command: str = ""
    versions: dict[str, str] = {}
    git: dict[str, str | None] = {}
    hardware: dict[str, str | int] = {}
    found: dict[str, int | str] = {}  # what the machine found for `auto`, by key of `train`
    in_channels: Annotated[int, Field(ge=1)]
    colors: tuple[tuple[_Level, _Level, _Level], ...] = ()  # of the classes; kd 0.2 wrote none


def read_environment(run_dir: Path) -> Environment:
    """Read a run's `environment.json`.

    Raises:
        StorageError: it is missing or damaged.
    """
    return checked(read_verified(run_dir, ENVIRONMENT), Environment, str(run_dir / ENVIRONMENT))
