"""`kd doctor RECIPE`: why a teacher scores badly: the form or size of its images, or the order of its classes."""

from pathlib import Path

from rich.table import Table

from kd.components import Maker
from kd.console import stdout
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.parts.examine import IMAGES, diagnose
from kd.recipe import Recipe


def doctor_command(recipe: Recipe, *, runs: Path) -> None:
    """Print what a recipe's teacher scores with other images and classes, and one line of advice.

    Raises:
        RecipeError: the recipe has no teacher, or its teacher is not trained.
    """
    Maker(recipe).check()
    if recipe.teacher is None:
        raise RecipeError(f"{recipe.file}: has no teacher; `kd doctor` examines a recipe's teacher")
    parts = assemble(recipe, runs=runs, seed=recipe.train.seeds[0])
    if parts.averages_teach:
        raise RecipeError(
            f"{recipe.file}: its teacher is the student's moving average, which does not exist before training; "
            "`kd doctor` examines a trained teacher"
        )
    diagnosis = diagnose(parts)
    table = Table()
    table.add_column("images and classes")
    table.add_column("mIoU", justify="right")
    for row in diagnosis.rows:
        table.add_row(row.what, f"{100 * row.miou:.1f} %")
    console = stdout()
    console.print(f"the teacher of {recipe.file} on at most {IMAGES} validation images", soft_wrap=True)
    console.print(table)
    console.print(diagnosis.advice, soft_wrap=True)
