"""`kd copy`: a recipe into another folder, with all that it needs to stand there by itself."""

import json
from pathlib import Path

from kd.errors import RecipeError
from kd.recipe import json_schema, read_recipe, teachers
from kd.recipe.schema import components


def copy_recipe(path: str | Path, folder: Path) -> Path:
    """Copy a recipe with the files that it names (its teacher's recipe, `file.py`) and the schema into a folder.

    Returns:
        The copy of the recipe; the others lie beside it as they do beside the original.

    Raises:
        RecipeError: the recipe is wrong, names a file outside its folder, one that is missing, or the folder holds
            another file of the name.
    """
    first = read_recipe(path, trust=True)
    start, copies = first.folder.resolve(), {first.file.resolve(): folder / first.file.name}
    for recipe in (first, *teachers(first)):
        named = [recipe.folder / use.use.rpartition(":")[0] for use in components(recipe) if ":" in use.use]
        for file in (recipe.file, *named):
            if not file.resolve().is_relative_to(start):
                raise RecipeError(f"{recipe.file}: {file} is outside {start}; copy it by hand")
            copies[file.resolve()] = folder / file.resolve().relative_to(start)
    contents = {copy: _beside_its_schema(source) for source, copy in copies.items()}
    contents[folder / "recipe.schema.json"] = json.dumps(json_schema(), indent=2).encode() + b"\n"
    for copy, content in contents.items():
        if copy.exists() and copy.read_bytes() != content:
            raise RecipeError(f"{copy}: exists and differs from what would be copied; move it away")
    for copy, content in contents.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    return next(iter(copies.values()))


def _beside_its_schema(source: Path) -> bytes:
    """A file as its copy holds it: the schema that editors read lies beside the copy."""
    try:
        return source.read_bytes().replace(b"$schema=../recipe.schema.json", b"$schema=recipe.schema.json")
    except OSError as error:
        raise RecipeError(f"{source}: cannot be read ({error.strerror})") from None
