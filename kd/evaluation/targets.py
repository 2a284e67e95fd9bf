"""Which runs a command line names, and the recipe by which each is scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kd.errors import Mistake, Position, RecipeError, StorageError, fail
from kd.recipe import Recipe, read_recipe
from kd.recipe.overrides import refuse_idle
from kd.runs import finished_at, finished_of, read_run_recipe, run_command, run_directory

SCORING = ("data", "evaluate", "device", "train.batch_size", "train.precision", "train.memory_format")


class Target(NamedTuple):
    """A finished run, and the recipe by which it is scored: the run's, with the overrides of the command."""

    run_dir: Path
    recipe: Recipe


class Found(NamedTuple):
    """The runs that a command line names."""

    targets: list[Target]
    damaged: list[StorageError]  # of the runs whose recipe cannot be read
    notes: list[str]  # lines for the user


def find(names: Sequence[str], overrides: Sequence[str], *, runs: Path, trust: bool) -> Found:
    """Find the runs that are named, each once.

    An override belongs to the run's recipe if `kd run` with it has trained a run. Else the overrides of how a run is
    scored (`SCORING`) leave the run as it is, and change its score only; a run directory takes no others.

    Args:
        names: recipes; or run directories, of one seed or of all.
        overrides: `path=value` texts.
        runs: where the runs of recipes are.
        trust: whether a recipe, or an override, may name code outside kd.

    Raises:
        RecipeError: a recipe or an override is wrong, or names code that is not trusted; a recipe or a directory has no
            finished run.
    """
    run_dirs = [name for name in names if Path(name).is_dir()]
    scoring = [text for text in overrides if is_scoring(text)]
    if run_dirs and len(run_dirs) == len(names):
        fail(
            Mistake(
                Position(f"<{text}>"),
                (),
                f"{', '.join(run_dirs)} is trained already; only {', '.join(SCORING)} change how a run is scored",
            )
            for text in overrides
            if text not in scoring
        )
    refuse_idle(overrides, len(names))
    found: dict[Path, Target] = {}
    damaged: list[StorageError] = []
    notes: list[str] = []
    for name in names:
        if name in run_dirs:
            targets = []
            for run_dir in finished_at(Path(name)):
                try:
                    targets.append(Target(run_dir, read_run_recipe(run_dir, scoring, trust=trust)))
                except StorageError as error:
                    damaged.append(error)
        else:
            targets, note = _of_recipe(name, overrides, runs=runs, trust=trust)
            notes += note
        for target in targets:
            found.setdefault(target.run_dir.resolve(), target)
    return Found(list(found.values()), damaged, notes)


def is_scoring(override: str) -> bool:
    """Whether an override may change how a finished run is scored."""
    path = override.partition("=")[0]
    return any(path == key or path.startswith(f"{key}.") for key in SCORING)


def _of_recipe(name: str, overrides: Sequence[str], *, runs: Path, trust: bool) -> tuple[list[Target], list[str]]:
    """The runs of a recipe, and a line on the seeds that are missing."""
    recipe = trained = read_recipe(name, overrides, trust=trust)
    others = [text for text in overrides if not is_scoring(text)]
    if len(others) < len(overrides) and not run_directory(recipe, runs, recipe.train.seeds[0]).parent.is_dir():
        trained = read_recipe(name, others, trust=trust)
    run_dirs = finished_of(trained, runs)
    unfinished = [seed for seed in trained.train.seeds if run_directory(trained, runs, seed) not in run_dirs]
    targets = [Target(run_dir, recipe) for run_dir in run_dirs]
    if not unfinished:
        return targets, []
    seeds = ", ".join(map(str, unfinished))
    return targets, [
        f"{run_dirs[0].parent.name}: unfinished seeds: {seeds}; {run_command(trained, runs)} finishes them"
    ]


def refuse_inside(option: str, path: Path | None, targets: Sequence[Target]) -> None:
    """Refuse to write into a run directory, which stays as its run left it.

    Raises:
        RecipeError: `path` is in one.
    """
    for target in targets if path is not None else ():
        if path is not None and path.resolve().is_relative_to(target.run_dir.resolve()):
            raise RecipeError(
                f"{option} {path}: is in the run directory {target.run_dir}, to which nothing is added; "
                "choose another place"
            )
