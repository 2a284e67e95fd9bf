"""Equal budgets: what every recipe of a study is given so that all train for as long, in epochs, steps or time.

Time depends on the machine. It is measured once, before the first run, and kept in the folder of runs: every process
that works on the study, now or later, reads the same lengths.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock
from pydantic import BaseModel, Field

from kd.errors import StorageError
from kd.files.checked import STRICT, read_checked, read_sealed, seal
from kd.files.manifest import Sha256
from kd.files.storage import write_atomic
from kd.recipe import Recipe

FOLDER = "budgets"  # in the folder of runs


Seconds = Annotated[float, Field(gt=0)]
Steps = Annotated[int, Field(ge=1)]


class _Unsealed(BaseModel):
    """What kd 0.5 wrote."""

    model_config = STRICT

    format: Literal[1] = 1
    seconds: dict[str, Seconds]
    steps: dict[str, Steps]


class Times(BaseModel):
    """Measured times of a study."""

    model_config = STRICT

    format: Literal[2]
    recipes: dict[str, str]  # their ids, by their names in the study, as they are without a budget
    seconds: dict[str, Seconds]  # of a step
    steps: dict[str, Steps]  # with which all recipes of one student take equally long
    sha256: Sha256  # of this file, see `kd.files.checked.seal`


def times_file(runs: Path, stem: str, recipes: Mapping[str, Recipe]) -> Path:
    """Where the times of these recipes are kept: with other recipes, it is another file."""
    content = json.dumps([[name, recipe.id] for name, recipe in recipes.items()])
    return runs / FOLDER / f"{stem}-{hashlib.sha256(content.encode()).hexdigest()[:8]}.json"


def read_steps(file: Path, recipes: Mapping[str, Recipe]) -> dict[str, int] | None:
    """The steps of these recipes by the times that were measured; None if none were.

    Raises:
        StorageError: the file is damaged, or of other recipes.
    """
    if not file.exists():
        return None
    try:
        stated, steps = _stated(file)
        expected = {name: recipe.id for name, recipe in recipes.items()}
        if steps.keys() != expected.keys() or stated not in (None, expected):
            what = f"{_listed(stated or dict.fromkeys(steps))}, not {_listed(expected)}"
            raise StorageError(f"{file}: is of other recipes ({what})")
    except StorageError as error:
        raise StorageError(f"{error}; remove it: the times are measured again") from None
    return steps


def _stated(file: Path) -> tuple[dict[str, str] | None, dict[str, int]]:
    """The ids of the recipes, and their steps. What kd 0.5 wrote has no ids, and is read with a warning.

    Other times would give the study other lengths, and train all its runs again.
    """
    try:
        times = read_sealed(file, Times)
    except StorageError as error:
        with suppress(StorageError):
            old = read_checked(file, _Unsealed)
            warnings.warn(f"{file}: not verified, because kd 0.5 wrote no SHA-256 into it", stacklevel=2)
            return None, old.steps
        raise error from None
    return times.recipes, times.steps


def _listed(ids: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {id}" if id else name for name, id in ids.items())


def measure(file: Path, recipes: Mapping[str, Recipe], time_of: Callable[[Recipe], tuple[float, int]]) -> None:
    """Measure the recipes of a study, unless another process has done so; others wait meanwhile.

    Args:
        file: see `times_file`.
        recipes: by name, as they are without a budget; the first one of each student is the measure of the others.
        time_of: measures one: seconds of a step, and the steps of a run.

    Raises:
        StorageError: the file cannot be written.
    """
    lock = FileLock(file.with_suffix(".lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise StorageError(f"{file.parent}: cannot be written ({error.strerror}); choose --runs DIR") from None
    try:
        if file.exists():
            return
        measured = {name: time_of(recipe) for name, recipe in recipes.items()}
        wanted: dict[str, float] = {}  # seconds of training, by student
        steps = {}
        for name, recipe in recipes.items():
            seconds, own = measured[name]
            total = wanted.setdefault(subject(recipe), seconds * own)
            steps[name] = max(1, round(total / seconds))
        content = {
            "format": 2,
            "recipes": {name: recipe.id for name, recipe in recipes.items()},
            "seconds": {name: each[0] for name, each in measured.items()},
            "steps": steps,
        }
        write_atomic(file, seal(content))
    finally:
        lock.release()


def subject(recipe: Recipe) -> str:
    """The student, the data and their size, as text: recipes of one subject are compared with each other."""
    student, data = recipe.student, recipe.data
    return json.dumps([student.use, student.args, data.use, data.args, data.size], sort_keys=True, default=str)
