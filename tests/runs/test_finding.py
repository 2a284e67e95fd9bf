"""The finished runs that a recipe or a directory names."""

import pytest

from kd.errors import RecipeError
from kd.recipe import read_recipe
from kd.runs import finished_at, finished_of, run_directory

RECIPE = """
student: {use: students.MobileNetV3SmallASPP}
data: {use: kd.data.Shapes, size: [64, 64]}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {steps: 3, batch_size: 2}
"""

SEEDS = "train.seeds=[10, 2, 3]"


@pytest.fixture
def recipe(folder):
    """A recipe of three seeds, of which 10 and 2 look finished, and a run that was moved aside."""
    (folder / "r.yaml").write_text(RECIPE)
    recipe = read_recipe("r.yaml", [SEEDS])
    for seed in (10, 2):
        run_dir = run_directory(recipe, folder / "runs", seed)
        run_dir.mkdir(parents=True)
        (run_dir / "manifest.json").touch()
    (run_dir.parent / "seed4-before-20260101-000000").mkdir()
    return recipe


def test_runs_are_found_by_recipe_by_folder_and_by_directory(recipe, folder):
    of_recipe = finished_of(recipe, folder / "runs")
    assert [run_dir.name for run_dir in of_recipe] == ["seed10", "seed2"]  # in the order of its seeds
    assert [run_dir.name for run_dir in finished_at(of_recipe[0].parent)] == ["seed2", "seed10"]  # as numbers
    assert finished_at(of_recipe[0]) == of_recipe[:1]


def test_a_recipe_without_a_finished_run_is_one_line_with_the_command(recipe, folder):
    with pytest.raises(RecipeError) as caught:
        finished_of(recipe.changed(train=recipe.train.model_copy(update={"seeds": (3,)})), folder / "runs")
    at = run_directory(recipe, folder / "runs", 3).parent
    assert str(caught.value) == (
        f"r.yaml: no finished run in {at}; kd run r.yaml '{SEEDS}' --runs {folder / 'runs'} trains it"
    )
