"""The options that several commands share, and the reading of the recipes that they name."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kd.console import say
from kd.errors import RecipeError, StorageError
from kd.memory import lasting_objects
from kd.units import from_environment

if TYPE_CHECKING:
    from kd.recipe import Recipe


def add_recipe(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """One recipe with overrides, `--trust` and `--runs`."""
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?" if optional else None, help="a recipe file, or one that comes with kd"
    )
    add_overrides(parser)
    add_trust(parser)
    add_runs(parser)


def ready(files: Sequence[str], overrides: Sequence[str]) -> None:
    """Check overrides, then torch: a mistake on the command line is reported before torch is imported.

    Raises:
        RecipeError: there are overrides, and no recipe is named.
        ValueError: torch and torchvision do not work together.
    """
    from kd.recipe.overrides import refuse_idle

    refuse_idle(overrides, len(files))
    from kd.components import check_torch

    check_torch()


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """`path=value`: values that differ from the recipe's."""
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="path=value",
        help="a changed value in YAML syntax, such as train.epochs=2",
    )


def add_files(parser: argparse.ArgumentParser, metavar: str, summary: str) -> None:
    """Several recipes, overrides among them, `--trust` and `--runs`."""
    parser.add_argument("files", nargs="+", metavar=metavar, help=summary)
    parser.set_defaults(overrides=[])
    add_trust(parser)
    add_runs(parser)


def add_recipe_of_file(parser: argparse.ArgumentParser) -> None:
    """`--recipe`: of a file of a network that states none."""
    parser.add_argument(
        "--recipe",
        dest="of",
        type=Path,
        metavar="RECIPE",
        help="the recipe of a file that states none (default: the one that the file states)",
    )


def add_runs(parser: argparse.ArgumentParser) -> None:
    """`--runs`: the folder of run directories."""
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of the run directories (default: runs)"
    )


def add_runs_named(parser: argparse.ArgumentParser) -> None:
    """The folder of run directories of a command about nothing else, as an argument too; `runs_named` returns it."""
    parser.add_argument(
        "folder", type=Path, metavar="RUNS", nargs="?", help="folder of the run directories, as with --runs"
    )
    add_runs(parser)


def runs_named(arguments: argparse.Namespace) -> Path:
    """The folder of run directories, which must be there if it is named.

    Raises:
        RecipeError: it is named twice.
        StorageError: there is no such folder.
    """
    default, folder = Path("runs"), arguments.folder
    if folder is not None and arguments.runs != default:
        raise RecipeError(f"'{folder}' and --runs '{arguments.runs}': two folders of runs; remove one of them")
    runs: Path = folder or arguments.runs
    if runs != default and not runs.is_dir():
        raise StorageError(f"{runs}: no such folder")
    return runs


def add_trust(parser: argparse.ArgumentParser) -> None:
    """`--trust`: code from outside kd."""
    parser.add_argument(
        "--trust",
        action="store_true",
        default=os.environ.get("KD_TRUST") == "1",
        help="allow components from outside kd (also: KD_TRUST=1)",
    )


class Idle(NamedTuple):
    """Options of a command that have no effect: beside `beside`, or where none of `without` is given."""

    options: tuple[str, ...]
    beside: str = ""
    without: tuple[str, ...] = ()

    def why(self, given: set[str]) -> str:
        """Why they have no effect beside the given ones; empty where they have one."""
        if self.beside:
            return f"with {self.beside}" if self.beside in given else ""
        return f"without {' or '.join(self.without)}" if given.isdisjoint(self.without) else ""


def refuse_idle_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse options that change nothing, by what the command has put into `parser.set_defaults(idle=…)`.

    Raises:
        RecipeError: there are such options.
    """
    given = {
        name
        for action in parser._actions
        if getattr(arguments, action.dest, action.default) != action.default
        for name in action.option_strings or [str(action.metavar)]
    }
    mistakes = [
        f"kd {arguments.command}: {option} has no effect {why}; leave it out"
        for idle in getattr(arguments, "idle", ())
        if (why := idle.why(given))
        for option in idle.options
        if option in given
    ]
    if mistakes:
        raise RecipeError(mistakes)


def sort_out(arguments: argparse.Namespace) -> None:
    """Split the positional arguments of a command with overrides into `files`, `inputs` and `overrides`.

    `path=value` may be anywhere among them; a path that is there is a file, whether or not it has a `=`. Of a command
    with one recipe, the first file is that; what it has no use for stays among the overrides, which refuse it.
    """
    if not hasattr(arguments, "overrides"):
        return
    files = getattr(arguments, "files", None)
    named = [arguments.recipe] if files is None else files
    texts = [text for text in (*named, *getattr(arguments, "inputs", ()), *arguments.overrides) if text]
    plain = [text for text in texts if "=" not in text or os.path.lexists(text)]
    arguments.overrides = [text for text in texts if text not in plain]
    arguments.files, others = (plain[:1], plain[1:]) if files is None else (plain, [])
    if hasattr(arguments, "inputs"):
        arguments.inputs = others
    else:
        arguments.overrides += others


def open_recipes(arguments: argparse.Namespace, *, opening: str = "", resumes: bool = False) -> "list[Recipe]":
    """Read the recipes of a command line, then check torch: a mistake in a recipe is reported before torch is imported.

    Args:
        arguments: of the command.
        opening: what a command that takes long begins with; it is printed after the recipes are read.
        resumes: whether run directories are read too, each as the recipe of its run.

    Raises:
        RecipeError: a recipe, or its teacher's, is wrong or not trusted; or an override is given without a recipe.
        ValueError: torch and torchvision do not work together.
    """
    from kd.recipe import read_recipe
    from kd.recipe.overrides import refuse_idle
    from kd.runs import resumable

    refuse_idle(arguments.overrides, len(arguments.files))
    given: dict[str, Any] = {"overrides": arguments.overrides, "trust": arguments.trust}
    recipes = [
        resumable(Path(file), **given) if resumes and os.path.isdir(file) else read_recipe(file, **given)
        for file in arguments.files
    ]
    if opening and from_environment("RANK", 0) == 0:  # torchrun's first process speaks for all
        say(f"{', '.join(arguments.files)}: {opening}")
    with lasting_objects():  # all that torch's import makes
        from kd.components import check_torch

        check_torch()
    return recipes
