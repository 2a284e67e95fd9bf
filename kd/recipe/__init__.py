"""Text -> Recipe. Never imports torch."""

from kd.recipe.reader import (
    EvaluateConfig,
    Recipe,
    TermConfig,
    TrackConfig,
    TrainConfig,
    Use,
    WeightsConfig,
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
    "EvaluateConfig",
    "Recipe",
    "TermConfig",
    "TrackConfig",
    "TrainConfig",
    "Use",
    "WeightsConfig",
    "baseline_of",
    "first_seed",
    "imports",
    "json_schema",
    "read_recipe",
    "teacher_recipe",
    "teachers",
    "to_yaml",
]
