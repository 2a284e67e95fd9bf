"""Which trained networks a command line names, and the recipe by which each is scored."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kd.data.images.decode import SUFFIXES as IMAGES
from kd.errors import Mistake, Position, RecipeError, StorageError, fail
from kd.files.manifest import WEIGHTS
from kd.files.reading import check_file
from kd.recipe import Recipe, read_recipe
from kd.recipe.overrides import refuse_idle
from kd.runs import finished_at, finished_of, is_finished, read_run_recipe, recipe_in, run_command, run_directory
from kd.runs.origin import EXPORTED, NoRecipeError

FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".onnx", ".xml")  # of a network
RECORDS = (".json", ".jsonl", ".npz")  # of a run, beside its weights
SCORING = ("data", "evaluate", "device", "train.batch_size", "train.precision", "train.memory_format")


class Target(NamedTuple):
    """A trained network, and the recipe by which it is scored: its own, with the overrides of the command."""

    path: Path  # a run directory, or a file of a network
    recipe: Recipe


class Found(NamedTuple):
    """The runs that a command line names."""

    targets: list[Target]
    damaged: list[StorageError]  # of the runs whose recipe cannot be read
    notes: list[str]  # lines for the user


def find(
    names: Sequence[str],
    overrides: Sequence[str],
    *,
    recipe: str | os.PathLike[str] | None = None,
    runs: Path,
    trust: bool,
) -> Found:
    """Find the networks that are named, each once.

    An override belongs to the run's recipe if `kd run` with it has trained a run. Else the overrides of how a run is
    scored (`SCORING`) leave the run as it is, and change its score only; a run directory or a file takes no others.

    Args:
        names: recipes; run directories, of one seed or of all; or files of networks.
        overrides: `path=value` texts.
        recipe: of the files, where they state none or are to be scored by another; weights are then a file in their
            run directory too.
        runs: where the runs of recipes are.
        trust: whether a recipe, or an override, may name code outside kd.

    Raises:
        RecipeError: a recipe or an override is wrong, or names code that is not trusted; a recipe or a directory has no
            finished run; `recipe` is of no file.
    """
    refuse_idle_recipe(recipe, names)
    names = [_run_of(name) if recipe is None else name for name in names]
    refuse_others(names)
    run_dirs = [name for name in names if os.path.isdir(name)]
    files = [name for name in names if is_file(name)]
    scoring = [text for text in overrides if is_scoring(text)]
    trained = run_dirs + files
    if trained and len(trained) == len(names):
        fail(
            Mistake(
                Position(f"<{text}>"),
                (),
                f"{', '.join(trained)} is trained already; only {', '.join(SCORING)} change how a run is scored",
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
            for run_dir in finished_at(Path(name), trust=trust):
                try:
                    targets.append(Target(run_dir, read_run_recipe(run_dir, scoring, trust=trust)))
                except StorageError as error:
                    damaged.append(error)
        elif name in files:
            try:
                targets = [_of_file(Path(name), scoring, recipe, trust=trust)]
            except StorageError as error:
                damaged.append(error)
                continue
        else:
            targets, note = _of_recipe(name, overrides, runs=runs, trust=trust)
            notes += note
        for target in targets:
            found.setdefault(target.path.resolve(), target)
    return Found(list(found.values()), damaged, notes)


def refuse_others(names: Iterable[str]) -> None:
    """Refuse what is no network that kd opens.

    Raises:
        RecipeError: a name is that of an image, a record, an exported folder or a program for torch.
    """
    if mistakes := [f"{name}: {what}" for name in names if (what := _no_network(Path(name)))]:
        raise RecipeError(mistakes)


def _no_network(path: Path) -> str | None:
    """What else a path is, and what to name in its place; None where it may be a network."""
    exported = next(filter(os.path.isfile, map(path.joinpath, EXPORTED)), None)
    if (exported or path).suffix == ".pt2":
        return "an exported program for torch, which kd does not open again; name its run"
    if path.suffix.lower() in IMAGES and os.path.isfile(path):
        return "an image; name a run, a recipe or a file of a network first"
    if path.suffix in RECORDS and is_finished(path.parent):
        return f"a file about a run; name the run, {path.parent}"
    return f"an exported folder; name its file, {exported}" if exported else None


def is_file(name: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a file of a network, which may not be there."""
    path = Path(name)
    return path.suffix in FILES and not os.path.isdir(path)


def refuse_idle_recipe(recipe: str | os.PathLike[str] | None, names: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse `--recipe` where nothing is read by it.

    Raises:
        RecipeError: none of the names is a file: runs and recipes have their own.
    """
    if recipe is not None and not any(map(is_file, names)):
        listed = ", ".join(map(str, names))
        raise RecipeError(
            f"--recipe {recipe}: no file of a network is named ({listed}); remove it, or name the run's {WEIGHTS}"
        )


def _run_of(name: str) -> str:
    """The run directory of weights that are in one, else the name itself."""
    folder = Path(name).parent
    return os.fspath(folder) if Path(name).name == WEIGHTS and is_finished(folder) else name


def _of_file(file: Path, overrides: Sequence[str], recipe: str | os.PathLike[str] | None, *, trust: bool) -> Target:
    check_file(file, "a network", StorageError)
    if recipe is not None:
        return Target(file, read_recipe(Path(recipe), overrides, trust=trust))
    try:
        return Target(file, recipe_in(file, overrides, trust=trust))
    except NoRecipeError as error:
        raise StorageError(f"{error}; name one with --recipe RECIPE") from None


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
