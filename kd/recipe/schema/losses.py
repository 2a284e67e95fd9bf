"""What a recipe minimises: `supervised`, and the terms of `distill`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from kd.recipe.section import Component, Section, Use
from kd.recipe.values import (
    Address,
    Number,
    not_a,
)


class SupervisedConfig(Component):
    """The loss against the labels."""

    aux_weight: Number = Field(
        default=0.4, ge=0, description="Factor of each auxiliary head's loss in the supervised loss."
    )

    @property
    def loss(self) -> Use:
        """The loss as a component."""
        return self._as_use()


class AtConfig(Section):
    """Where a term reads each network: `logits`, `aux.<name>`, a tap or a module path; or lists of equal length."""

    student: Address = Field(description="The student's tap, or a list of taps.")
    teacher: Address = Field(description="The teacher's tap, or a list of taps.")

    @field_validator("teacher")
    @classmethod
    def _equal_length(cls, teacher: Any, info: ValidationInfo) -> Any:
        if "student" in info.data:
            sides = (info.data["student"], teacher)
            counts = [len(side) if isinstance(side, tuple) else "one name" for side in sides]
            if counts[0] != counts[1]:
                raise ValueError(f"must have as many taps as the student: {counts[0]}, got {counts[1]}")
        return teacher


def _factor(value: Any) -> Any:
    if isinstance(value, (Mapping, Use)):
        return Use.model_validate(value)
    if type(value) not in (int, float):
        raise not_a("a number or a schedule (use, args)", value)
    if not 0 <= value < float("inf"):
        raise not_a("at least 0", value)
    return float(value)


class TermConfig(Section):
    """One distillation term."""

    loss: Use = Field(description="The loss, called with the student's map, the teacher's map and the labels.")
    at: AtConfig | None = Field(default=None, description="The taps that the loss reads; null: the logits of both.")
    adapter: Use | None = Field(
        default=None, description="Maps the student's channels to the teacher's; trained with the student."
    )
    weight: Annotated[float | Use, BeforeValidator(_factor)] = Field(
        default=1.0, description="Factor in the total loss: a number >= 0, or a schedule of the step."
    )
    resize: Literal["student", "teacher"] = Field(
        default="student", description="Whose map is resized to the other's size."
    )
    pixels: Literal["valid", "all", "unlabelled"] = Field(
        default="valid",
        description="Pixels compared; for `all` and `unlabelled`, the teacher's argmax labels unlabelled pixels.",
    )
