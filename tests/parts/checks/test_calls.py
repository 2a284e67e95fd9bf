"""Every opening of a recipe checks all its calls, and those of the teachers that it trains."""

import pytest
from tiny import read, write_recipes

from kd.diagnose.doctor import doctor_command
from kd.diagnose.smoke import smoke
from kd.errors import RecipeError
from kd.files.manifest import MANIFEST
from kd.parts.checks.calls import check_calls
from kd.parts.checks.dry_run import open_parts
from kd.runs import run_directory
from kd.train.fill_cache import fill_cache
from kd.train.session import run_recipe, session

WRONG = {  # key, what the teacher's recipe has there
    "channels: 8}": "chanels: 8}",
    "{use: kd.losses.CrossEntropy}": "{use: kd.losses.CrossEntropy, args: {label_smoothin: 0.1}}",
    "momentum: 0.9": "momentun: 0.9",
}


@pytest.fixture
def wrong(tmp_path):
    """A recipe with one wrong call, whose teacher's has three; the lines on them."""
    path = write_recipes(tmp_path)
    teacher = tmp_path / "teacher.yaml"
    text = teacher.read_text()
    for right, instead in WRONG.items():
        assert right in text
        text = text.replace(right, instead)
    teacher.write_text(text)
    recipe = read(path, "distill.kl.loss.args.temperatur=2", "cache={views: 1}")
    return recipe, [
        "<distill.kl.loss.args.temperatur=2>: distill.kl.loss.args.temperatur: kd.losses.PixelKL takes no "
        "'temperatur'; did you mean 'temperature'?",
        f"{teacher}:2:38: student.args.chanels: nets.py:Net takes no 'chanels'; did you mean 'channels'?",
        f"{teacher}:8:50: supervised.args.label_smoothin: kd.losses.CrossEntropy takes no 'label_smoothin'; "
        "did you mean 'label_smoothing'?",
        f"{teacher}:9:51: optimizer.args.momentun: torch.optim.SGD takes no 'momentun'; did you mean 'momentum'?",
    ]


def opened(recipe, *, runs):
    with session(recipe, runs=runs):
        raise AssertionError("it is open")


OPENINGS = (check_calls, open_parts, opened, run_recipe, fill_cache, doctor_command, smoke)


@pytest.mark.parametrize("opening", OPENINGS, ids=lambda opening: opening.__name__)
def test_every_opening_reports_the_calls_of_all_recipes_at_once(wrong, tmp_path, opening):
    recipe, lines = wrong
    with pytest.raises(RecipeError) as caught:
        opening(recipe, runs=tmp_path / "runs")
    assert caught.value.mistakes == lines
    assert not (tmp_path / "runs").exists()


def test_a_finished_teacher_is_not_called_again(tmp_path):
    """Its run may come from a machine with other packages."""
    path, runs = write_recipes(tmp_path), tmp_path / "runs"
    teacher = tmp_path / "teacher.yaml"
    teacher.write_text(teacher.read_text().replace("kd.data.RandomFlip", "flips.Flip"))
    recipe = read(path)
    with pytest.raises(RecipeError) as caught:
        check_calls(recipe, runs=runs)
    assert caught.value.mistakes == [f"{teacher}:6:13: data.augment.0: there is no module 'flips'"]
    run_dir = run_directory(recipe.teacher_recipe, runs, 0)
    run_dir.mkdir(parents=True)
    (run_dir / MANIFEST).touch()
    check_calls(recipe, runs=runs)
