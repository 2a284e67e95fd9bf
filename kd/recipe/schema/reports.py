"""What a recipe reports: `evaluate`, `log` and `track`."""

from collections import Counter
from typing import Annotated

from pydantic import AfterValidator, Field

from kd.recipe.section import Section, Use
from kd.recipe.values import (
    Flag,
    Scales,
    Size,
    Text,
    Whole,
)


def _distinct(metrics: tuple[Use, ...]) -> tuple[Use, ...]:
    label, times = Counter(metric.label for metric in metrics).most_common(1)[0] if metrics else ("", 0)
    if times > 1:
        raise ValueError(f"each metric must be given once, got {label} {times} times")
    return metrics


class EvaluateConfig(Section):
    """How images are scored, in training and in the result."""

    size: Size | None = Field(
        default=None, description="[height, width] in pixels of scored images, >= 32; null: `data.size`."
    )
    window: Size | None = Field(
        default=None, description="[height, width] of a window that slides over the image; null: the whole image."
    )
    scales: Scales = Field(
        default=(1.0,), description="Factors of the size; the probabilities of all passes are averaged."
    )
    flip: Flag = Field(default=False, description="Whether a pass over the mirrored image is added.")
    agreement: Flag = Field(
        default=True,
        description="Whether evaluations report how much student and teacher agree; the score where val has no labels.",
    )
    metrics: Annotated[tuple[Use, ...], AfterValidator(_distinct)] = Field(
        default=(),
        description="Metrics in addition to those of the confusion matrix, such as `kd.metrics.BoundaryIoU`.",
    )


class LogConfig(Section):
    """What is shown and logged; not part of a run's id."""

    every: Whole = Field(
        default=10, ge=1, description="Steps between reports, whose losses are means over these steps."
    )
    panels: Whole = Field(default=4, ge=0, le=64, description="Images shown with labels and predictions; 0: none.")
    tensorboard: Flag = Field(default=True, description="Whether TensorBoard events are written.")
    gradients: Whole = Field(
        default=0,
        ge=0,
        description="Steps between measurements of each term's gradient, as in `kd calibrate`; 0: never.",
    )


class TrackConfig(Section):
    """The Weights & Biases project that also receives the curves; not part of a run's id."""

    project: Text = Field(description="The project; created by the first run.")
    entity: Text | None = Field(default=None, description="The team or user that owns the project; null: your own.")
