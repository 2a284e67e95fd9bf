"""`kd copy`: what the shipped recipes are, and a recipe copied with all that it needs."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from kd.errors import RecipeError, StorageError
from kd.files.reading import read_bytes
from kd.recipe import json_schema, read_recipe, teachers, yaml12
from kd.recipe.schema import components
from kd.recipe.shipped.recipes import list_recipes, shipped_recipes

SCHEMA = "recipe.schema.json"


class Summary(NamedTuple):
    """A shipped recipe in a line, from the comments at its top."""

    name: str  # as a command takes it: shapes/mobilenetv3_kl_cwd.yaml
    data: str  # the dataset's class
    what: str
    result: str


def summaries() -> list[Summary]:
    """Every shipped recipe, by name."""
    recipes = []
    for name in list_recipes():
        recipe = read_recipe(shipped_recipes() / name)
        text = yaml12.read_text(recipe.file)
        comments = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
        what = next(line for line in comments if not line.startswith("yaml-language-server"))
        result = next(line.removeprefix("Result").strip() for line in comments if line.startswith("Result"))
        recipes.append(Summary(name, recipe.data.use.rpartition(".")[2], what, result))
    return recipes


def copy_recipe(path: str | Path, folder: Path) -> Path:
    """Copy a recipe, its teacher's, and their `file.py` with what it imports beside it into a folder, with the schema.

    They come into a folder named as theirs, `shapes/x.yaml` into `folder/shapes/`, so recipes of two collections never
    meet. A shipped recipe of this name comes before a file.

    Returns:
        The copy of the recipe; the others are beside it as they are beside the original.

    Raises:
        RecipeError: the recipe is wrong, names a file outside its folder or one that is missing, or another file has
            the name of a copy.
        StorageError: a copy cannot be written.
    """
    shipped = shipped_recipes() / path
    first = read_recipe(shipped if os.path.isfile(shipped) else path, trust=True)
    source, target = first.folder.resolve(), folder / first.folder.resolve().name
    contents = {folder / SCHEMA: json.dumps(json_schema(), indent=2).encode() + b"\n"}
    for recipe in (first, *teachers(first)):
        named = [recipe.folder / use.use.rpartition(":")[0] for use in components(recipe) if ":" in use.use]
        for name, code in recipe.sources.code.items():
            named += [(recipe.folder / name).parent / module for module in code.modules]
        for file in (recipe.file, *dict.fromkeys(named)):
            if not file.resolve().is_relative_to(source):
                raise RecipeError(f"{recipe.file}: {file} is outside {source}; copy it by hand")
            copy = target / file.resolve().relative_to(source)
            contents[copy] = _content(file, os.path.relpath(folder / SCHEMA, copy.parent))
    for copy, content in contents.items():
        if os.path.lexists(copy) and not (copy.is_file() and copy.read_bytes() == content):
            raise RecipeError(f"{copy}: exists and differs from what would be copied; move it, or name another folder")
    for copy, content in contents.items():
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        except OSError as error:
            raise StorageError(f"{copy}: cannot be written ({error.strerror}); name another folder") from None
    return target / first.file.resolve().relative_to(source)


def _content(file: Path, schema: str) -> bytes:
    """What the copy of a file holds: a recipe names the schema that editors read, relative to itself."""
    content = read_bytes(file, "a recipe or a Python file", RecipeError)
    pattern = rb"(?m)^(# yaml-language-server: \$schema=)\S*" + re.escape(SCHEMA.encode())
    return content if file.suffix == ".py" else re.sub(pattern, rb"\g<1>" + schema.encode(), content)
