"""Which recipes are the same: the id that names a recipe's runs.

The id is the beginning of the SHA-256 of a recipe without defaults, seeds and machine settings. A teacher's recipe
counts by its own id, a component of `file.py` by the file's SHA-256.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kd.recipe.moved import first_path
from kd.recipe.schema import Section

if TYPE_CHECKING:
    from kd.recipe.recipe import Recipe

MACHINE = ("device", "deterministic", "log", "track")


def identity(recipe: "Recipe", digests: Mapping[str, str]) -> str:
    """8 hex digits that name the runs of a recipe.

    Args:
        recipe: checked in shape.
        digests: of each `file.py` that it names, as it names it, the SHA-256 in hex digits.
    """

    def component(text: str) -> str:
        file, colon, name = text.rpartition(":")
        return f"{digests.get(file, file)}:{name}" if colon else first_path(text)

    tree = plain(recipe, component, defaults=False)
    for section, key in (("train", "seeds"), ("data", "workers")):
        tree[section].pop(key, None)
    tree["data"].get("args", {}).pop("root", None)
    if not tree["data"].get("args", True):
        del tree["data"]["args"]
    for key in MACHINE:
        tree.pop(key, None)
    tree.get("cache", {}).pop("folder", None)
    if recipe.teacher_recipe is not None:
        tree["teacher"] = {"recipe": recipe.teacher_recipe.id}
    return hashlib.sha256(json.dumps(_canonical(tree), sort_keys=True).encode()).hexdigest()[:8]


def plain(value: Any, component: Callable[[str], str], *, defaults: bool) -> Any:
    """Plain data of a section or value.

    Args:
        value: a section, or what a section holds.
        component: what stands for a component's path.
        defaults: whether values that equal their default are kept.
    """
    if isinstance(value, Section):
        tree = {}
        for name, field in type(value).model_fields.items():
            item = getattr(value, name)
            if defaults or field.is_required() or item != field.get_default(call_default_factory=True):
                tree[name] = component(item) if name == "use" and item else plain(item, component, defaults=defaults)
        return tree
    if isinstance(value, dict):
        return {key: plain(item, component, defaults=defaults) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, component, defaults=defaults) for item in value]
    return value


def _canonical(value: Any) -> Any:
    """`value` with text keys only, so that JSON can sort them."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else f"!{k!r}": _canonical(v) for k, v in value.items()}
    return [_canonical(v) for v in value] if isinstance(value, list) else value
