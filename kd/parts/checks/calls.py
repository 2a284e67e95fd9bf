"""The first stage of checking after a recipe's shape: every call fits its component, before anything is built."""

from pathlib import Path

from kd import distributed
from kd.components import Maker
from kd.errors import RecipeError
from kd.recipe import Recipe, teachers
from kd.runs import is_finished, run_directory


def check_calls(*recipes: Recipe, runs: Path) -> None:
    """Check that every component of recipes, and of their teachers' that will train, exists and takes its arguments.

    Of a teacher with a finished run only network and data are built: what trained it need not be installed here.

    Args:
        recipes: checked in shape.
        runs: where run directories are.

    Raises:
        RecipeError: with the mistakes of all.
    """
    chain = {teacher.id: teacher for recipe in recipes for teacher in teachers(recipe)}
    dirs = {key: run_directory(teacher, runs, teacher.train.seeds[0]) for key, teacher in chain.items()}
    untrained = distributed.first(lambda: [key for key, run_dir in dirs.items() if not is_finished(run_dir)])
    mistakes: dict[str, None] = {}
    # a teacher tracks only where the recipe that names it does, so that a missing package is that recipe's mistake
    for recipe in (*recipes, *(chain[key].changed(track=None) for key in untrained)):
        try:
            Maker(recipe).check()
        except RecipeError as error:
            mistakes |= dict.fromkeys(error.mistakes)
    if mistakes:
        raise RecipeError(mistakes)
