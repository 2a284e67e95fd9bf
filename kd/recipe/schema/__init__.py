"""The sections of a recipe as pydantic models: the meaning, unit, range and default of each key."""

from collections.abc import Iterator
from typing import Any

from kd.recipe.schema.images import DataConfig
from kd.recipe.schema.losses import SupervisedConfig, TermConfig
from kd.recipe.schema.networks import StudentConfig, TeacherConfig, WeightsConfig
from kd.recipe.schema.reports import EvaluateConfig, LogConfig, TrackConfig
from kd.recipe.schema.training import CacheConfig, OptimizerConfig, PhaseConfig, TrainConfig
from kd.recipe.section import Component, Section, Use, held
from kd.recipe.values import Flag, Text, term_name

__all__ = [
    "CacheConfig",
    "DataConfig",
    "EvaluateConfig",
    "Flag",
    "LogConfig",
    "OptimizerConfig",
    "PhaseConfig",
    "Section",
    "StudentConfig",
    "SupervisedConfig",
    "TeacherConfig",
    "TermConfig",
    "Text",
    "TrackConfig",
    "TrainConfig",
    "Use",
    "WeightsConfig",
    "components",
    "held",
    "term_name",
]


def components(value: Any) -> Iterator[Use]:
    """Every component in a recipe, a section or arguments, at any depth, each before those in its arguments."""
    if isinstance(value, Component):
        yield value._as_use()
    elif isinstance(value, TeacherConfig) and value.network is not None:
        yield value.network
    for _, item in held(value):
        yield from components(item)
