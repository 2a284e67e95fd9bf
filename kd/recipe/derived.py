"""The recipes that a recipe leads to: its teacher's and its baseline's; and its text."""

from kd.recipe import yaml12
from kd.recipe.identity import with_machine_settings
from kd.recipe.recipe import Recipe
from kd.recipe.schema import CacheConfig


def teachers(recipe: Recipe) -> list[Recipe]:
    """The recipe of the teacher, of the teacher's teacher, and so on."""
    chain = []
    while recipe.teacher_recipe is not None:
        recipe = recipe.teacher_recipe
        chain.append(recipe)
    return chain


def first_seed(recipe: Recipe) -> Recipe:
    """The recipe with its first seed only: the seed whose network teaches, however many were trained."""
    return recipe.changed(train=recipe.train.model_copy(update={"seeds": recipe.train.seeds[:1]}))


def baseline_of(recipe: Recipe) -> Recipe:
    """The recipe without `teacher` and `distill`: the student alone on the same labelled images, another run."""
    cache = None if recipe.cache is None else CacheConfig(views=recipe.cache.views)
    data = recipe.data.model_copy(update={"unlabelled": None})
    return recipe.changed(teacher=None, distill={}, cache=cache, data=data)


def taken_over(recipe: Recipe, teacher: Recipe) -> Recipe:
    """A teacher's recipe, and those of its own teachers, as the recipe that names it needs them.

    They take over its machine settings, which do not change their ids; and, where both name the same data, what divides
    them into splits (`kd.recipe.schema.SPLIT_ARGS`), so that a teacher does not train on images that the recipe holds
    out: for another fold, it is another run. Its `overrides` are what a command adds to its file to train that run.
    """
    copy = with_machine_settings(teacher, recipe)
    if teacher.teacher_recipe is not None:
        copy = copy.read_as(teacher=taken_over(recipe, teacher.teacher_recipe))
    taken = copy.changed(data=copy.data.divided_as(recipe.data))
    before, now = teacher.data.args, taken.data.args
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return taken.read_as(overrides=tuple(f"data.args.{key}={yaml12.in_flow(now.get(key))}" for key in changed))


def to_yaml(recipe: Recipe) -> str:
    """`recipe.resolved()` as YAML text."""
    return yaml12.dump(recipe.resolved())
