"""`kd copy`."""

import json
from pathlib import Path

import pytest
from recipe_text import ALONE, WITH_TEACHER

from kd.errors import RecipeError
from kd.recipe import json_schema, read_recipe
from kd.recipe.copying import copy_recipe


def test_a_copied_recipe_brings_what_it_names(folder: Path) -> None:
    Path("from/sub").mkdir(parents=True)
    Path("to").mkdir()
    Path("from/sub/t.yaml").write_text(ALONE)
    Path("from/mine.py").write_text("Loss = 1")
    Path("from/r.yaml").write_text(WITH_TEACHER.replace("kd.losses.PixelKL", "mine.py:Loss"))
    assert copy_recipe("from/r.yaml", Path("to")) == Path("to/r.yaml")
    assert read_recipe("to/r.yaml", trust=True).id == read_recipe("from/r.yaml", trust=True).id
    assert copy_recipe("from/r.yaml", Path("to")) == Path("to/r.yaml")
    assert json.loads(Path("to/recipe.schema.json").read_text()) == json_schema()
    Path("to/mine.py").write_text("Loss = 2")
    with pytest.raises(RecipeError, match=r"^to/mine.py: exists and differs from what would be copied; move it away$"):
        copy_recipe("from/r.yaml", Path("to"))
    Path("from/mine.py").unlink()
    with pytest.raises(RecipeError, match=r"from/mine.py: cannot be read \(No such file or directory\)$"):
        copy_recipe("from/r.yaml", Path("to"))
    Path("from/r.yaml").write_text(WITH_TEACHER.replace("sub/t.yaml", "../t.yaml"))
    Path("t.yaml").write_text(ALONE)
    with pytest.raises(RecipeError, match=r"t.yaml is outside .*from; copy it by hand$"):
        copy_recipe("from/r.yaml", Path("to"))
