"""Equal budgets: what every recipe of a study is given so that all train for as long, in epochs, steps or time.

Time depends on the machine. It is measured once, before the first run, and kept in the folder of runs: every process
that works on the study, now or later, reads the same lengths.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel

from kd.checked import STRICT, read_checked
from kd.errors import StorageError
from kd.recipe import Recipe
from kd.storage import write_json

FOLDER = "budgets"  # in the folder of runs


class Times(BaseModel):
    """Measured times of a study."""

    model_config = STRICT

    format: int = 1
    seconds: dict[str, float]  # of a step, by the recipe's name in the study
    steps: dict[str, int]  # with which all recipes of one student take equally long


def times_file(runs: Path, stem: str, recipes: Mapping[str, Recipe]) -> Path:
    """Where the times of these recipes are kept: with other recipes, it is another file."""
    content = json.dumps([[name, recipe.id] for name, recipe in recipes.items()])
    return runs / FOLDER / f"{stem}-{hashlib.sha256(content.encode()).hexdigest()[:8]}.json"


def read_times(file: Path) -> Times | None:
    """The times that were measured; None if none were.

    Raises:
        StorageError: the file is damaged.
    """
    if not file.exists():
        return None
    try:
        return read_checked(file, Times)
    except StorageError as error:
        raise StorageError(f"{error}; remove it: the times are measured again") from None


def measure(file: Path, recipes: Mapping[str, Recipe], time_of: Callable[[Recipe], tuple[float, int]]) -> None:
    """Measure the recipes of a study, unless another process has done so; others wait meanwhile.

    Args:
        file: see `times_file`.
        recipes: by name, as they are without a budget; the first one of each student is the measure of the others.
        time_of: measures one: seconds of a step, and the steps of a run.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{file.parent}: cannot be written ({error.strerror}); choose --runs DIR") from None
    with FileLock(file.with_suffix(".lock")):
        if file.exists():
            return
        measured = {name: time_of(recipe) for name, recipe in recipes.items()}
        wanted: dict[str, float] = {}  # seconds of training, by student
        steps = {}
        for name, recipe in recipes.items():
            seconds, own = measured[name]
            total = wanted.setdefault(subject(recipe), seconds * own)
            steps[name] = max(1, round(total / seconds))
        write_json(file, {"format": 1, "seconds": {name: each[0] for name, each in measured.items()}, "steps": steps})


def subject(recipe: Recipe) -> str:
    """The student, the data and their size, as text: recipes of one subject are compared with each other."""
    student, data = recipe.student, recipe.data
    return json.dumps([student.use, student.args, data.use, data.args, data.size], sort_keys=True, default=str)
