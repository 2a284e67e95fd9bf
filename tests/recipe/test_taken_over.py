"""A teacher's recipe takes over the split of the recipe that names it, where both name the same data."""

import pytest

from kd.recipe import read_recipe

TEXT = """
student: {{use: students.MobileNetV3SmallASPPLite}}
data: {{use: {use}, args: {args}, size: [64, 64]}}
supervised: {{use: kd.losses.CrossEntropy}}
optimizer: {{use: torch.optim.SGD, args: {{lr: 0.1}}}}
train: {{steps: 2, batch_size: 2}}
"""
TAUGHT = "teacher: {recipe: teacher.yaml}\ndistill: {kl: {loss: {use: kd.losses.PixelKL}}}\n"


@pytest.fixture
def both(folder):
    def write(student, teacher, *, use="kd.data.Folders", of_teacher="kd.data.Folders"):
        base = "root: mine, classes: [a, b]"
        (folder / "teacher.yaml").write_text(TEXT.format(use=of_teacher, args=f"{{{base}, {teacher}}}"))
        (folder / "r.yaml").write_text(TEXT.format(use=use, args=f"{{{base}, {student}}}") + TAUGHT)
        recipe = read_recipe("r.yaml")
        return recipe, {key: value for key, value in recipe.teacher_recipe.data.args.items() if key not in base}

    return write


def test_each_fold_has_a_teacher_of_its_own(both):
    recipe, split = both("folds: 5, fold: 0, group: (p.)_", "val: 20%")
    assert split == {"folds": 5, "fold": 0, "group": "(p.)_"}
    ids = {read_recipe("r.yaml", [f"data.args.fold={fold}"]).teacher_recipe.id for fold in range(5)}
    assert len(ids) == 5
    assert read_recipe("teacher.yaml").id not in ids
    assert recipe.id != read_recipe("r.yaml", ["data.args.fold=1"]).id


def test_the_same_split_is_the_same_run_whoever_names_it(both):
    recipe, split = both("val: 20%, test: 10%", "test: 10%, val: 20%")
    assert split == {"val": "20%", "test": "10%"}
    assert recipe.teacher_recipe.id == read_recipe("teacher.yaml").id


@pytest.mark.parametrize(
    ("student", "teacher", "taken"),
    [
        ("val: 20%", "val: 10%, test: 10%", {"val": "20%"}),
        ("val: 20%, images: images", "val: 10%", {"val": "20%"}),
        ("val: 20%", "val: 10%, images: more", {"val": "10%", "images": "more"}),  # other images
        ('lists: "{split}.txt"', "val: 10%", {"val": "10%"}),
        ('lists: "{split}.txt"', 'lists: "{split}.txt"', {"lists": "{split}.txt"}),
    ],
)
def test_only_the_split_of_the_same_images_is_taken_over(both, student, teacher, taken):
    assert both(student, teacher)[1] == taken


def test_another_dataset_keeps_its_split(both):
    assert both("folds: 5, fold: 0", "count: 10", of_teacher="kd.data.Shapes")[1] == {"count": 10}


def test_a_teacher_of_a_teacher_takes_it_over_too(both, folder):
    both("folds: 3, fold: 2", "val: 20%")
    (folder / "first.yaml").write_text((folder / "teacher.yaml").read_text())
    (folder / "teacher.yaml").write_text((folder / "teacher.yaml").read_text() + TAUGHT.replace("teacher.y", "first.y"))
    first = read_recipe("r.yaml").teacher_recipe.teacher_recipe
    assert (first.data.args["fold"], "val" in first.data.args) == (2, False)
