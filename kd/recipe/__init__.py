"""Text -> Recipe. Never imports torch."""

from kd.recipe.derived import baseline_of, first_seed, teachers, to_yaml
from kd.recipe.reader import imports, json_schema, read_recipe
from kd.recipe.recipe import Recipe
from kd.recipe.schema import CacheConfig, EvaluateConfig, TermConfig, Use, WeightsConfig

__all__ = [
    "CacheConfig",
    "EvaluateConfig",
    "Recipe",
    "TermConfig",
    "Use",
    "WeightsConfig",
    "baseline_of",
    "first_seed",
    "imports",
    "json_schema",
    "read_recipe",
    "teachers",
    "to_yaml",
]
