"""The JSON that `kd evaluate` prints: its models, from which the published schema is made. Read without torch.

A key that is added, removed or changed raises `schema_version`.
"""

from typing import Annotated, Literal

from pydantic import Field

from kd.files.checked import Model, Number

Share = Annotated[Number, Field(description="from 0 to 1")]


class ClassScore(Model):
    """One class; null where it is neither labelled nor predicted."""

    name: str
    iou: Share
    dice: Share


class MetricScore(Model):
    """A further metric."""

    values: Annotated[dict[str, Number], Field(description="by name; tables show the first")]
    unit: Annotated[str, Field(description='"%": the values are shares from 0 to 1')]
    direction: Annotated[str, Field(description='"higher" or "lower": which is better')]


class RunScore(Model):
    """A run on the split."""

    run: Annotated[str, Field(description="its directory")]
    name: str
    id: str
    seed: int
    role: str
    network: str
    images: int
    trained_on: Annotated[int, Field(description="number of the images that the run was trained on")]
    miou: Share
    pixel_accuracy: Share
    mean_accuracy: Share
    mean_dice: Share
    classes: list[ClassScore]
    metrics: dict[str, MetricScore]
    confusion: Annotated[list[list[int]], Field(description="pixels: rows are labels, columns predictions")]


class Spread(Model):
    """A share over seeds."""

    mean: float
    sd: float


class RecipeMean(Model):
    """A recipe with several seeds."""

    recipe: str
    seeds: list[int]
    miou: Spread
    pixel_accuracy: Spread


class EvaluateOutput(Model):
    """What `kd evaluate --json` prints: shares from 0 to 1."""

    schema_version: Literal[2] = 2
    split: str
    runs: list[RunScore]
    means: list[RecipeMean]
