"""Which recipes are the same: the id that names a recipe's runs.

The id is the beginning of the SHA-256 of a recipe without defaults, seeds and machine settings. A teacher's recipe
counts by its own id, a component of `file.py` by the file's SHA-256.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kd.recipe.moved import first_path
from kd.recipe.scope import Scope, plain

if TYPE_CHECKING:
    from kd.recipe.recipe import Recipe


def identity(recipe: "Recipe", digests: Mapping[str, str]) -> str:
    """8 hex digits that name the runs of a recipe.

    Args:
        recipe: checked in shape.
        digests: of each `file.py` that it names, as it names it, the SHA-256 in hex digits.
    """

    def component(text: str) -> str:
        file, colon, name = text.rpartition(":")
        return f"{digests.get(file, file)}:{name}" if colon else first_path(text)

    tree = plain(recipe, component, defaults=False, without=Scope)
    if recipe.teacher_recipe is not None:
        tree["teacher"] = {"recipe": recipe.teacher_recipe.id}
    return hashlib.sha256(json.dumps(_canonical(tree), sort_keys=True).encode()).hexdigest()[:8]


def _canonical(value: Any) -> Any:
    """`value` with text keys only, so that JSON can sort them."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else f"!{k!r}": _canonical(v) for k, v in value.items()}
    return [_canonical(v) for v in value] if isinstance(value, list) else value
