"""The recipes that come with kd, by name."""

import re
from pathlib import Path

import pytest
from recipe_text import ALONE

from kd.errors import RecipeError
from kd.recipe import read_recipe
from kd.recipe.shipped.recipes import name_of, shipped_recipes


def test_shipped_recipes_are_found_by_name(folder: Path) -> None:
    shipped = shipped_recipes()
    file = sorted(shipped.rglob("*.yaml"))[0]
    name = file.relative_to(shipped)
    assert read_recipe(name).file == file
    assert read_recipe(Path("recipes") / name).file == file
    assert name_of(file) == name
    typo = str(name.with_name(name.name.replace("e", "ee", 1)))
    with pytest.raises(RecipeError, match=re.escape(f"{typo}: no such file, here or among the shipped recipes; did")):
        read_recipe(typo)
    name.parent.mkdir()
    name.write_text(ALONE)
    assert read_recipe(name).file == name  # a file in the current folder comes first
    assert (name_of(name), name_of(file)) == (name, file)
