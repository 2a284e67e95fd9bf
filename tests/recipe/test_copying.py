"""`kd copy`."""

import json
from pathlib import Path

import pytest
from recipe_text import ALONE, WITH_TEACHER

from kd.errors import RecipeError, StorageError
from kd.recipe import json_schema, read_recipe
from kd.recipe.copying import copy_recipe, summaries
from kd.recipe.shipped.recipes import list_recipes, shipped_recipes


def test_a_recipe_is_copied_with_the_files_that_it_names(folder: Path) -> None:
    Path("from/sub").mkdir(parents=True)
    Path("from/sub/t.yaml").write_text(ALONE)
    Path("from/mine.py").write_text("Loss = 1")
    Path("from/r.yaml").write_text(WITH_TEACHER.replace("kd.losses.PixelKL", "mine.py:Loss"))
    for _ in range(2):  # an equal file is not in the way
        assert copy_recipe("from/r.yaml", Path("to")) == Path("to/from/r.yaml")
    assert read_recipe("to/from/r.yaml", trust=True).id == read_recipe("from/r.yaml", trust=True).id
    assert json.loads(Path("to/recipe.schema.json").read_text()) == json_schema()


def test_copies_name_the_schema_relative_to_themselves(folder: Path) -> None:
    Path("from/sub").mkdir(parents=True)
    line = "# yaml-language-server: $schema={}\n"
    Path("from/sub/t.yaml").write_text(line.format("../../../elsewhere/recipe.schema.json") + ALONE)
    Path("from/r.yaml").write_text(line.format("recipe.schema.json") + WITH_TEACHER)
    copy_recipe("from/r.yaml", Path("to"))
    copies = {"to/from/r.yaml": "../recipe.schema.json", "to/from/sub/t.yaml": "../../recipe.schema.json"}
    for file, schema in copies.items():
        assert Path(file).read_text().startswith(line.format(schema))


def test_a_copy_never_overwrites(folder: Path) -> None:
    Path("from/sub").mkdir(parents=True)
    Path("from/sub/t.yaml").write_text(ALONE)
    Path("from/r.yaml").write_text(WITH_TEACHER)
    Path("to/from/sub").mkdir(parents=True)
    Path("to/from/sub/t.yaml").write_text("mine")
    with pytest.raises(RecipeError) as caught:
        copy_recipe("from/r.yaml", Path("to"))
    assert str(caught.value) == (
        "to/from/sub/t.yaml: exists and differs from what would be copied; move it, or name another folder"
    )
    assert [path for path in Path("to").rglob("*") if path.is_file()] == [Path("to/from/sub/t.yaml")]
    assert Path("to/from/sub/t.yaml").read_text() == "mine"


def test_a_missing_file_or_one_outside_the_folder_is_not_copied(folder: Path) -> None:
    Path("from/sub").mkdir(parents=True)
    Path("from/sub/t.yaml").write_text(ALONE)
    Path("from/r.yaml").write_text(WITH_TEACHER.replace("kd.losses.PixelKL", "mine.py:Loss"))
    with pytest.raises(RecipeError, match=r"from/mine.py: no such file$"):
        copy_recipe("from/r.yaml", Path("to"))
    Path("from/r.yaml").write_text(WITH_TEACHER.replace("sub/t.yaml", "../t.yaml"))
    Path("t.yaml").write_text(ALONE)
    with pytest.raises(RecipeError, match=r"t.yaml is outside .*from; copy it by hand$"):
        copy_recipe("from/r.yaml", Path("to"))
    assert not Path("to").exists()


def test_all_shipped_recipes_fit_into_one_folder_as_they_are(folder: Path) -> None:
    for name in list_recipes():
        assert copy_recipe(name, Path()) == Path(name)
        assert Path(name).read_bytes() == (shipped_recipes() / name).read_bytes()
        assert read_recipe(name).file == Path(name)
        assert read_recipe(name).id == read_recipe(shipped_recipes() / name).id
    schemas = [path for path in Path().rglob("*") if path.suffix == ".json"]
    assert schemas == [Path("recipe.schema.json")]


def test_a_changed_copy_is_not_mistaken_for_the_shipped_recipe(folder: Path) -> None:
    copy = copy_recipe("shapes/teacher_deeplabv3plus.yaml", Path())
    copy.write_text(copy.read_text().replace("count: 2000", "count: 20"))
    with pytest.raises(RecipeError, match=r"^shapes/teacher_deeplabv3plus.yaml: exists and differs"):
        copy_recipe("shapes/teacher_deeplabv3plus.yaml", Path())


def test_every_shipped_recipe_has_a_summary() -> None:
    by_name = {summary.name: summary for summary in summaries()}
    assert list(by_name) == list_recipes()
    for summary in by_name.values():
        assert summary.what.endswith(".")
        assert not summary.what.startswith(("Run", "Result", "yaml"))
        assert "mIoU" in summary.result or summary.result.startswith("none")
    demo = by_name["shapes/mobilenetv3_kl_cwd.yaml"]
    assert demo.data == "Shapes"
    assert demo.what.startswith("The demo: pixel-wise KL and CWD on the logits.")


def test_a_folder_that_cannot_be_written_is_one_line(folder: Path) -> None:
    Path("file").write_text("")
    with pytest.raises(StorageError, match=r"^file/recipe.schema.json: cannot be written \(.*\); name another folder$"):
        copy_recipe("shapes/teacher_deeplabv3plus.yaml", Path("file"))
