"""`kd doctor RECIPE`: why a teacher scores badly: the form of its images, their size, or the order of its classes."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from kd.components.build import check_calls
from kd.console import stdout
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.parts.examine import IMAGES, diagnose
from kd.recipe import read_recipe


def doctor_command(file: str | Path, overrides: Sequence[str] = (), *, trust: bool, runs: Path) -> None:
    """Print what a recipe's teacher would score in other circumstances, and one line of advice.

    Raises:
        RecipeError: the recipe is wrong, has no teacher, or one that is not trained yet.
    """
    recipe = read_recipe(file, overrides, trust=trust)
    check_calls(recipe)
    if recipe.teacher is None:
        raise RecipeError(f"{file}: it has no teacher; `kd doctor` looks at the teacher of a recipe")
    parts = assemble(recipe, runs=runs, seed=recipe.train.seeds[0])
    if parts.averages_teach:
        raise RecipeError(f"{file}: its teacher is the average of its own student; there is none to look at yet")
    found = diagnose(parts)
    table = Table()
    table.add_column("images and classes")
    table.add_column("mIoU", justify="right")
    for row in found.rows:
        table.add_row(row.what, f"{100 * row.miou:.1f} %")
    console = stdout()
    console.print(f"the teacher of {file} on at most {IMAGES} validation images", soft_wrap=True)
    console.print(table)
    console.print(found.advice, soft_wrap=True)
