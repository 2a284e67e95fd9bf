"""Read a recipe: every mistake as `file:line:column: path: what`, all of a file at once.

Nothing that a recipe names is imported here. The recipe, its teacher's and every file that it names are opened once.
"""

import os
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kd.errors import Mistake, Path_, Position, RecipeError, fail
from kd.recipe import moved, yaml12
from kd.recipe.derived import taken_over, teachers
from kd.recipe.explain import explained
from kd.recipe.identity import named_files
from kd.recipe.overrides import listed, override
from kd.recipe.recipe import Recipe
from kd.recipe.schema import Section, components, held
from kd.recipe.shipped import catalogue
from kd.recipe.shipped import recipes as shipped
from kd.recipe.sources import Sources, digest_of, read_code
from kd.recipe.trust import untrusted


def read_recipe(
    path: str | Path,
    overrides: Iterable[str] = (),
    *,
    trust: bool = False,
    id: str | None = None,
    sources: Sources | None = None,
    command: str = "",
    text: str | None = None,
) -> Recipe:
    """Read and check one recipe file, and the recipe of its teacher.

    Args:
        path: the file, or the name of a shipped recipe (`shapes/x.yaml`).
        overrides: `path=value` texts in YAML syntax, list items by index; `null` takes a term or an optional value out.
        trust: whether it may name code outside `kd.recipe.trust.TRUSTED`. Nothing is imported here in any case.
        id: of a recipe kept in a run directory: no other file is opened, and `teacher_recipe` is None.
        sources: with `id`, the files that the recipe names as the run directory keeps them.
        command: the user's, for messages; empty: the `kd run` of this recipe.
        text: with `id`, the recipe that a file of a network holds; `file.py` is then looked for beside that file.

    Raises:
        RecipeError: with every mistake in it; or a file that it names cannot be read.
    """
    file, overrides = shipped.find(path) if id is None else Path(path), listed(overrides)
    command = f"{command or shlex.join(['kd', 'run', str(file), *overrides])} --trust"
    # a run directory may be a stranger's, whose words must not become a command
    trusting = f"if you trust this recipe: {command}" if id is None else "if you trust it, add --trust"
    inside = None if id is None else file.parent
    content = yaml12.read_text(file, inside=inside) if text is None else text
    recipe = _read_text(content, file, overrides, trust, trusting, warn=id is None)  # nobody mends a run directory's
    if id is not None:
        return recipe.read_as(id=id, sources=sources or (Sources() if text is None else _sources(recipe)))
    return _follow(recipe, () if overrides else (file.resolve(),), trusting)


def imports(path: str | Path, overrides: Iterable[str] = ()) -> list[str]:
    """Every component that a recipe names, its teacher's included, and the files beside `file.py` that it imports.

    Nothing is imported.

    `kd.recipe.trust.is_trusted` decides which of them need `--trust`.

    Raises:
        RecipeError: the recipe is wrong.
    """
    first = read_recipe(path, overrides, trust=True)
    paths = []
    for recipe in (first, *teachers(first)):
        folder = _from(first.folder, recipe.folder)
        named = (use.use for use in components(recipe))
        paths += [os.path.normpath(os.path.join(folder, name)) if ":" in name else name for name in named]
        for name, code in recipe.sources.code.items():
            modules = sorted(code.modules.keys() - {code.file.name})
            paths += [os.path.normpath(os.path.join(folder, name, "..", module)) for module in modules]
    return list(dict.fromkeys(paths))


def _from(start: Path, folder: Path) -> str:
    """A folder relative to another one; as it is where that is on another drive."""
    try:
        return os.path.relpath(folder, start)
    except ValueError:
        return str(folder)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors."""
    schema: dict[str, Any] = Recipe.model_json_schema()
    schema |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "kd recipe"}
    catalogue.offer_names(schema)
    return schema


def _read_text(
    text: str, file: Path, overrides: tuple[str, ...], trust: bool, trusting: str, *, warn: bool = True
) -> Recipe:
    """The recipe that is the text of a file; `trusting` states how to run it if it is trusted."""
    root = yaml12.compose(text, str(file))
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(f"{file}: not a mapping; a recipe consists of sections such as `student:`")
    mistakes: list[Mistake] = []
    for changed in overrides:
        mistakes += override(root, changed, Recipe)
    data, positions, yaml_mistakes = yaml12.plain(root)
    if "variants" in data and "student" not in data:
        name = shipped.name_of(file)
        raise RecipeError(f"{name}: a study, not a recipe; kd study {name} trains it")
    mistakes += yaml_mistakes
    moved.update(data, positions, warn=warn)
    if not trust:
        mistakes += untrusted(data, positions, trusting)
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        known = {mistake.path for mistake in yaml_mistakes}
        mistakes += [m for m in explained(error, Recipe, positions) if m.path not in known]
    fail(mistakes)
    _locate(recipe, positions, ())
    return recipe.read_as(file=file, trust=trust, overrides=overrides)


def _follow(recipe: Recipe, seen: tuple[Path, ...], trusting: str) -> Recipe:
    """Read the files that a recipe names, and set its id; `seen` are the recipes whose teachers lead to it."""
    recipe = recipe.read_as(sources=_sources(recipe))
    if recipe.teacher is not None and recipe.teacher.recipe is not None:
        where, file = f"{recipe.at('teacher', 'recipe')}: teacher.recipe", recipe.folder / recipe.teacher.recipe
        if not os.path.isfile(file):  # False of a name that no file can have
            raise RecipeError(f"{where}: no file {file}")
        if file.resolve() in seen:
            raise RecipeError(f"{where}: {file} refers back to itself; a teacher cannot depend on its own student")
        teacher = _follow(
            _read_text(yaml12.read_text(file), file, (), recipe.trust, trusting), (*seen, file.resolve()), trusting
        )
        recipe = recipe.read_as(teacher=taken_over(recipe, teacher))
    return recipe.changed()


def _sources(recipe: Recipe) -> Sources:
    """The files that a recipe names, read now.

    Code that cannot be read is left out, and reported when its component is checked: a recipe can be listed and copied
    without it.
    """
    code = {}
    for file in dict.fromkeys(use.use.rpartition(":")[0] for use in components(recipe) if ":" in use.use):
        with suppress(RecipeError):
            code[file] = read_code(recipe.folder / file)
    class_map = recipe.data.args.get("classes")
    digests = {text: digest_of(text, is_file=text == class_map) for text in dict.fromkeys(named_files(recipe))}
    return Sources(code, {text: digest for text, digest in digests.items() if digest is not None})


def _locate(value: Any, positions: dict[Path_, Position], path: Path_) -> None:
    """Give every section its place in the file."""
    if isinstance(value, Section) and path in positions:  # a default has none
        value._positions, value._path = positions, path
    for key, item in held(value):
        _locate(item, positions, (*path, key))
