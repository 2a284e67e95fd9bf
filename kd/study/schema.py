"""The content of a study's file: the meaning, range and default of each key."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from kd.recipe.section import Section
from kd.recipe.values import Flag, Seeds, Text


def _variant_name(name: str) -> str:
    if len(name) > 40 or "/" in name or not name.isprintable() or name != name.strip():
        raise ValueError("a variant's name has at most 40 printable characters and no '/'")
    return name


Overrides = dict[Text, Any]


class BudgetConfig(Section):
    """What all runs of a study have in common."""

    match: Literal["epochs", "steps", "time"] = Field(
        description="Every variant trains for as many epochs, or steps, as the first one; or for as long as the first "
        "one of the same student, the passes of the teacher included."
    )


class Study(Section):
    """A study: a recipe, its variants, and the seeds of each."""

    base: Text | None = Field(
        default=None, description="The recipe, relative to the study; needed unless each variant names its own."
    )
    overrides: Overrides = Field(
        default_factory=dict, description="Changed values in every recipe: path -> value, as on the command line."
    )
    variants: dict[Annotated[Text, AfterValidator(_variant_name)], Overrides] = Field(
        min_length=1,
        description="Name -> changed values of the variant; `recipe` names another recipe than the base.",
    )
    seeds: Seeds = Field(default=(0, 1, 2), description="The seeds of every variant, one run each.")
    baselines: Flag = Field(
        default=True, description="Whether the student of every variant is also trained without its teacher."
    )
    budget: BudgetConfig | None = Field(
        default=None, description="What is made equal; null: every recipe has the length that it states."
    )
