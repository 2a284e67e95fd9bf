"""`kd doctor RECIPE`: why a teacher scores badly: the form or size of its images, or the order of its classes."""

from pathlib import Path

from kd.console import make_table, print_line, stdout
from kd.errors import RecipeError
from kd.parts.assemble import assemble
from kd.parts.checks.calls import check_calls
from kd.parts.checks.examine import IMAGES, diagnose
from kd.recipe import Recipe


def doctor_command(recipe: Recipe, *, runs: Path, name: Path | None = None) -> None:
    """Print what a recipe's teacher scores with other images and classes, and one line of advice.

    Args:
        recipe: with a trained teacher.
        runs: folder of run directories.
        name: what the recipe is called, if it is not in its place yet.

    Raises:
        RecipeError: the recipe has no teacher, or its teacher is not trained.
    """
    check_calls(recipe, runs=runs)
    if recipe.teacher is None:
        raise RecipeError(f"{recipe.file}: has no teacher; `kd doctor` examines a recipe's teacher")
    parts = assemble(recipe, runs=runs, seed=recipe.train.seeds[0])
    if parts.averages_teach:
        raise RecipeError(
            f"{recipe.file}: its teacher is the student's moving average, which does not exist before training; "
            "`kd doctor` examines a trained teacher"
        )
    diagnosis = diagnose(parts)
    console = stdout()
    print_line(f"the teacher of {name or recipe.file} on at most {IMAGES} validation images", console=console)
    rows = [(row.what, f"{100 * row.miou:.1f} %") for row in diagnosis.rows]
    console.print(make_table(("images and classes", "mIoU"), rows))
    print_line(diagnosis.advice, console=console)
