"""A model's validation errors as mistakes: in our words and at their place in the file."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from kd.errors import Mistake, Path_, Position, did_you_mean, nearest, shown
from kd.recipe.section import Use, fields_at

_MESSAGES = {
    "int_type": "must be an integer, got {got}",
    "int_from_float": "must be an integer, got {got}",
    "float_type": "must be a number, got {got}",
    "bool_type": "must be true or false, got {got}",
    "string_type": "must be text, got {got}",
    "string_too_short": "must not be empty",
    "literal_error": "must be {expected}, got {got}",
    "greater_than_equal": "must be at least {ge}, got {got}",
    "greater_than": "must be above {gt}, got {got}",
    "less_than_equal": "must be at most {le}, got {got}",
    "less_than": "must be below {lt}, got {got}",
    "model_type": "must be a mapping, got {got}",
    "dict_type": "must be a mapping, got {got}",
    "tuple_type": "must be a list, got {got}",
    "too_short": "must have at least {min_length} item, got {actual_length}",
    "value_error": "{error}",
}


def explained(error: ValidationError, model: type[BaseModel], positions: Mapping[Path_, Position]) -> list[Mistake]:
    """The mistakes in a ValidationError; a list with wrong items is not also reported as too short."""
    errors = error.errors(include_url=False)
    parents = {details["loc"][:depth] for details in errors for depth in range(len(details["loc"]))}
    reported = (details for details in errors if not (details["type"] == "too_short" and details["loc"] in parents))
    return [_mistake(details, model, positions) for details in reported]


def _mistake(error: Mapping[str, Any], model: type[BaseModel], positions: Mapping[Path_, Position]) -> Mistake:
    path = tuple(key for key in error["loc"] if key != "[key]")
    kind, got = error["type"], error["input"]
    limits = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in error.get("ctx", {}).items()}
    if kind == "missing":
        return Mistake(nearest(positions, path[:-1]), path[:-1], f"needs '{path[-1]}'")
    if kind in ("extra_forbidden", "invalid_key"):
        fields = fields_at(model, path[:-1]) or Use.model_fields
        return Mistake(nearest(positions, path), path, "unknown key" + did_you_mean(str(path[-1]), fields))
    what = _MESSAGES[kind].format(got=shown(got), **limits) if kind in _MESSAGES else error["msg"]
    if kind == "literal_error" and isinstance(got, str):
        words = [word for word in str(limits["expected"]).split("'") if word.isidentifier() and word != "or"]
        what += did_you_mean(got, words)
    while path and path not in positions:  # a default conflicts with its neighbours: report their section
        path = path[:-1]
    return Mistake(nearest(positions, path), path, what)
