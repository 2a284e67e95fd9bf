"""Text -> Recipe. Never imports torch."""

from kd.recipe.reader import (
    Evaluate,
    Recipe,
    Term,
    Track,
    Train,
    Use,
    Weights,
    baseline_of,
    first_seed,
    imports,
    json_schema,
    read_recipe,
    teacher_recipe,
    teachers,
    to_yaml,
)

__all__ = [
    "Evaluate",
    "Recipe",
    "Term",
    "Track",
    "Train",
    "Use",
    "Weights",
    "baseline_of",
    "first_seed",
    "imports",
    "json_schema",
    "read_recipe",
    "teacher_recipe",
    "teachers",
    "to_yaml",
]
