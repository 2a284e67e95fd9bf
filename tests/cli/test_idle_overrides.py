"""An override that names nothing, or that no recipe takes, is a mistake in every command."""

import argparse

import pytest
from command import kd

from kd.cli.main import commands, make_parser
from kd.compare import gather
from kd.errors import RecipeError


def with_overrides():
    """The commands that take `path=value`."""
    (subparsers,) = make_parser(commands())._subparsers._group_actions
    return sorted(name for name, parser in subparsers.choices.items() if hasattr(_parsed(parser), "overrides"))


def _parsed(parser):
    return argparse.Namespace(**{action.dest: None for action in parser._actions} | parser._defaults)


NEEDED = {"label": ("--out", "labelled")}


@pytest.mark.parametrize("command", with_overrides())
def test_an_override_that_names_nothing_is_refused(command, recipe, capsys):
    if command == "study":
        (recipe.parent / "study.yaml").write_text(f"base: {recipe.name}\nvariants: {{a: {{}}}}\n")
        recipe = recipe.parent / "study.yaml"
    needed = NEEDED.get(command, ())
    assert kd(command, recipe, "--trust", "no.such=key", *needed) == 2
    assert capsys.readouterr().err.startswith("<no.such=key>: no 'no'; ")
    assert kd(command, recipe, "--trust", "train.epoks=2", *needed) == 2
    assert "did you mean 'epochs'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", with_overrides())
def test_an_override_without_a_recipe_is_refused(command, recipe, capsys):
    assert kd(command, "train.steps=2", *NEEDED.get(command, ())) == 2
    reason = "it changes nothing: no recipe is named; name a recipe, or remove it"
    assert capsys.readouterr().err == f"<train.steps=2>: {reason}\n"


def test_run_directories_take_no_override(recipe, capsys):
    assert kd("run", recipe, "--trust", "teacher=null", "distill=null", "train.steps=1") == 0
    (run_dir,) = recipe.parent.glob("runs/*/seed0")
    capsys.readouterr()
    line = (
        f"<train.steps=9>: it changes nothing: {run_dir} is no recipe but a run directory; name a recipe, or remove it"
    )
    assert kd("compare", run_dir, "train.steps=9", "--no-page") == 2
    assert capsys.readouterr().err == f"{line}\n"
    with pytest.raises(RecipeError) as caught:
        gather([run_dir], overrides=["train.steps=9"])
    assert str(caught.value) == line


def test_imports_are_those_of_the_recipe_with_its_overrides(recipe, capsys):
    assert kd("check", "--imports", recipe, "student.use=other.py:Net") == 0
    assert "other.py:Net" in capsys.readouterr().out.splitlines()
    assert kd("check", "--imports", "student.use=other.py:Net") == 2
