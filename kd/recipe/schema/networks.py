"""The networks of a recipe: `teacher`, `student`, and the weights of both."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from kd.recipe.identity import Named
from kd.recipe.section import Arguments, Component, Section, Use
from kd.recipe.values import (
    ComponentPath,
    Decay,
    Flag,
    Names,
    Number,
    Size,
    Text,
    not_a,
)


class WeightsConfig(Section):
    """Weights, and how to read them where the file alone does not determine it."""

    file: Annotated[Text, Named.FILE] = Field(
        description="`imagenet`, a torchvision name, a run directory or a file, relative to the current folder."
    )
    key: Text | None = Field(
        default=None, description="Where the weights are in the file, such as `model_state`; null: the usual keys."
    )
    rename: dict[Text, Annotated[str, Field(strict=True)]] = Field(
        default_factory=dict, description="Prefixes of the file's names with their replacements: `{'old.': 'new.'}`."
    )
    head: Literal["new"] | None = Field(
        default=None,
        description="`new`: train a new classifier if the number of classes differs; null: report an error.",
    )

    def options(self) -> dict[str, Any]:
        """The given keys as arguments of `kd.networks.weights.load_into`."""
        return self.model_dump(exclude_defaults=True)


def _weights(value: Any) -> Any:
    if isinstance(value, (Mapping, WeightsConfig)):
        return WeightsConfig.model_validate(value)
    if not isinstance(value, str):
        raise not_a("text (imagenet, best.pth) or a mapping with `file`", value)
    if not value:
        raise ValueError("must not be empty")
    return value


Weights = Annotated[str | WeightsConfig, BeforeValidator(_weights)]


class TeacherConfig(Section):
    """The network that teaches: exactly one of `recipe`, `run`, `use` and `ema`."""

    recipe: Text | None = Field(
        default=None, description="The teacher's recipe, relative to this one; trained first if it has no finished run."
    )
    run: Annotated[Text | None, Named.FILE] = Field(
        default=None, description="A finished run directory, relative to the current folder."
    )
    use: ComponentPath | None = Field(
        default=None, description="A network that needs no run; num_classes and in_channels come from the data."
    )
    ema: Decay | None = Field(
        default=None,
        description="The student's own moving average teaches, with this decay; no other teacher is needed.",
    )
    args: Arguments = Field(default_factory=dict, description="Keyword arguments of the network; only with `use`.")
    weights: Annotated[Weights | None, Named.FILE] = Field(
        default=None,
        description="Trained weights: a file, relative to the current folder, or a name; only with `use`.",
        validate_default=True,
    )

    classes: tuple[Text, ...] | None = Field(
        default=None,
        description="Names of its classes in the order of its channels; null: as its run or its weights state them.",
    )
    outputs: Literal["logits", "probabilities"] = Field(
        default="logits", description="What the network returns; for `probabilities`, the logarithm is taken."
    )
    size: Size | None = Field(
        default=None,
        description="[height, width] at which the teacher sees the images; null: as the student sees them.",
    )
    scale: Annotated[Number, Field(gt=0, le=8)] | None = Field(
        default=None, description="In place of `size`: factor of the height and width of the student's images."
    )
    flip: Flag = Field(
        default=False, description="Whether the teacher also sees each image mirrored; its maps are means of both."
    )
    precision: Literal["auto", "int8"] = Field(
        default="auto", description="`int8`: the teacher runs quantised, on the CPU; `auto`: as train.precision."
    )

    @field_validator("classes", "outputs")
    @classmethod
    def _of_a_network(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in (None, "logits") and info.data.get("use") is None:
            raise ValueError(f"{info.field_name} belongs to use, as a run states its own; remove it")
        return value

    @field_validator("precision")
    @classmethod
    def _lasting(cls, precision: str, info: ValidationInfo) -> str:
        if precision == "int8" and info.data.get("ema") is not None:
            raise ValueError("a teacher that is a moving average changes with every step; remove precision")
        return precision

    @field_validator("scale")
    @classmethod
    def _one_size(cls, scale: float | None, info: ValidationInfo) -> float | None:
        if scale is not None and info.data.get("size") is not None:
            raise ValueError("give one of size and scale, got both; remove one")
        return scale

    @field_validator("weights")
    @classmethod
    def _one_form(cls, weights: str | WeightsConfig | None, info: ValidationInfo) -> str | WeightsConfig | None:
        given = [name for name in ("recipe", "run", "use", "ema") if info.data.get(name) is not None]
        known = {"recipe", "run", "use", "ema", "args"} <= info.data.keys()
        if known and len(given) != 1:
            raise ValueError(f"give one of recipe, run, use and ema, got {' and '.join(given) or 'none'}")
        if known and given != ["use"] and (weights is not None or info.data["args"]):
            raise ValueError(f"args and weights belong to use, not to {given[0]}; remove them")
        return weights

    @property
    def network(self) -> Use | None:
        """The network as a component, if it is given by `use`."""
        return None if self.use is None else self._placed(self.use, self.args)


class StudentConfig(Component):
    """The network that learns."""

    weights: Annotated[Weights | None, Named.FILE] = Field(
        default=None, description="Initial weights: `imagenet`, or as for the teacher."
    )
    partial: Flag = Field(
        default=False, description="Whether weights may fit in part; the rest of the network starts from scratch."
    )
    freeze: Names = Field(
        default=(),
        description="Modules of the network that do not train: weights and statistics stay as loaded, dropout is off.",
    )

    @property
    def network(self) -> Use:
        """The network as a component."""
        return self._as_use()
