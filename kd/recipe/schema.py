"""The sections of a recipe as pydantic models: what each key means, its unit, range and default."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from kd.errors import Path_, Position, dotted, nearest, shown
from kd.recipe.trust import is_component, nearly_trusted
from kd.units import amount, multiples_near

# A validator here gets the plain value of one node, so every error's location is a path in the file. Unions are
# decided by the value's kind before pydantic sees them: one mistake is one error.


def _unlike(what: str, value: Any) -> ValueError:
    return ValueError(f"must be {what}, got {shown(value)}")


def _address(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, str) and v for v in value):
        return tuple(value)
    if isinstance(value, str) and value:
        return value
    raise _unlike("a tap ('logits', 'high', a module's path) or a list of them", value)


def _names(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(name, str) and name for name in names):
        raise _unlike("a module's path ('backbone') or a list of them", value)
    return tuple(names)


def _factor(value: Any) -> Any:
    if isinstance(value, (Mapping, Use)):
        return Use.model_validate(value)
    if type(value) not in (int, float):
        raise _unlike("a number or a schedule (use, args)", value)
    if not 0 <= value < float("inf"):
        raise _unlike("at least 0", value)
    return float(value)


def _weights(value: Any) -> Any:
    if isinstance(value, (Mapping, WeightsConfig)):
        return WeightsConfig.model_validate(value)
    if not isinstance(value, str):
        raise _unlike("text (imagenet, best.pth) or a mapping with `file`", value)
    if not value:
        raise ValueError("must not be empty")
    return value


def _height_width(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise _unlike("[height, width] in pixels", value)
    return value


def _argument(value: Any) -> Any:
    """An argument; a mapping with the key `use`, at any depth, becomes a component."""
    if isinstance(value, Mapping):
        return Use.model_validate(value) if "use" in value else _MAPPING.validate_python(value)
    if isinstance(value, (list, tuple)):
        return _SEQUENCE.validate_python(value)
    return value


def _argument_name(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("an argument's name must be an identifier")
    return name


def _component(text: str) -> str:
    if not is_component(text):
        hint = nearly_trusted(text)
        raise ValueError(
            f"must be package.module.Name or file.py:Name, got {shown(text)}" + (f"; {hint}" if hint else "")
        )
    return text


def term_name(name: str) -> str:
    """`name`, if a term can be called so; else a ValueError."""
    if not name.isidentifier() or name in ("supervised", "total"):
        raise ValueError("a term's name must be an identifier, and not 'supervised' or 'total'")
    return name


def _scales(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or not value:
        raise _unlike("a list of factors of the image's size, such as [0.75, 1.0, 1.25]", value)
    return value


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    seed, times = Counter(seeds).most_common(1)[0]
    if times > 1:
        raise ValueError(f"each seed must be given once, got {seed} {times} times")
    return seeds


def _distinct_metrics(metrics: tuple["Use", ...]) -> tuple["Use", ...]:
    labels = Counter(metric.label for metric in metrics)
    if repeated := [label for label, times in labels.items() if times > 1]:
        raise ValueError(f"each metric must be given once, got {repeated[0]} {labels[repeated[0]]} times")
    return metrics


Text = Annotated[str, Field(strict=True, min_length=1)]
Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Amount = Annotated[
    int | str,
    BeforeValidator(amount),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^(100|\d{1,2}(\.\d+)?)%$"}]}
    ),
]
Address = Annotated[str | tuple[str, ...], BeforeValidator(_address)]
Side = Annotated[int, Field(strict=True, ge=32, le=16_384)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_height_width)]
Decay = Annotated[float, Field(strict=True, gt=0, lt=1)]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_names),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Argument = Annotated[Any, BeforeValidator(_argument)]
_MAPPING: TypeAdapter[dict[Any, Any]] = TypeAdapter(dict[Any, Argument])
_SEQUENCE: TypeAdapter[list[Any]] = TypeAdapter(list[Argument])
Arguments = dict[Annotated[Text, AfterValidator(_argument_name)], Argument]
ComponentPath = Annotated[Text, AfterValidator(_component)]


class Section(BaseModel):
    """A mapping of the recipe; it knows where it stands in its file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    _positions: dict[Path_, Position] = PrivateAttr(default_factory=dict)
    _path: Path_ = PrivateAttr(default=())

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__  # positions are not in __dict__

    def _placed(self, use: str, args: dict[str, Any]) -> "Use":
        placed = Use(use=use, args=args)
        placed._positions, placed._path = self._positions, self._path
        return placed


class Component(Section):
    """A section that names a component."""

    use: ComponentPath = Field(
        description="The component: `package.module.Name`, or `file.py:Name` relative to the recipe."
    )
    args: Arguments = Field(
        default_factory=dict, description="The component's own keyword arguments; a mapping with `use` is built first."
    )

    def at(self, *keys: str | int) -> str:
        """`file:line:column` of the component or of the argument at `keys`; its `use` if it was made in Python."""
        return str(nearest(self._positions, (*self._path, "args", *keys) if keys else self._path, self.use))

    def where(self, *keys: str | int) -> str:
        """As `at`, and the path: how a message about the component or an argument begins."""
        path = (*self._path, "args", *keys) if keys else self._path
        return f"{self.at(*keys)}: {dotted(path)}" if self._path else self.at()

    def _as_use(self) -> "Use":
        return self._placed(self.use, self.args)


class Use(Component):
    """A component and its arguments."""

    @property
    def label(self) -> str:
        """Its name without the path, with its arguments where it has any: `BoundaryIoU(ratio=0.01)`."""
        name = self.use.replace(":", ".").rpartition(".")[2]
        arguments = ", ".join(f"{key}={shown(value)}" for key, value in self.args.items())
        return f"{name}({arguments})" if arguments else name


class WeightsConfig(Section):
    """Weights, and how they are read where the file alone does not say it."""

    file: Text = Field(
        description="`imagenet`, a torchvision name, a run's folder or a file, relative to the current folder."
    )
    key: Text | None = Field(default=None, description="Where in the file the weights are, such as `model_state`.")
    rename: dict[Text, Annotated[str, Field(strict=True)]] = Field(
        default_factory=dict, description="Beginnings of the file's names: `{'old.': 'new.'}`."
    )
    head: Literal["new"] | None = Field(
        default=None, description="`new`: a classifier for another number of classes starts anew; null: an error."
    )

    def options(self) -> dict[str, Any]:
        """What was given, as `kd.networks.weights.load_into` takes it."""
        return self.model_dump(exclude_none=True)


GivenWeights = Annotated[str | WeightsConfig, BeforeValidator(_weights)]


class TeacherConfig(Section):
    """The network that teaches: exactly one of `recipe`, `run`, `use` and `ema`."""

    recipe: Text | None = Field(
        default=None, description="Its recipe, relative to this one; trained first if it has not been."
    )
    run: Text | None = Field(default=None, description="A finished run directory, relative to the current folder.")
    use: ComponentPath | None = Field(
        default=None, description="A network that needs no run; num_classes and in_channels come from the data."
    )
    ema: Decay | None = Field(
        default=None,
        description="The student's own moving average teaches, with this decay; it needs no other teacher.",
    )
    args: Arguments = Field(default_factory=dict, description="The network's own keyword arguments; only with `use`.")
    weights: GivenWeights | None = Field(
        default=None,
        description="Trained weights: a file, relative to the current folder, or a name; only with `use`.",
        validate_default=True,
    )

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

    weights: GivenWeights | None = Field(
        default=None, description="Weights to start from: `imagenet`, or as for the teacher."
    )
    freeze: Names = Field(
        default=(),
        description="Modules of the network that stay as they were loaded: weights, statistics, dropout off.",
    )

    @property
    def network(self) -> Use:
        """The network as a component."""
        return self._as_use()


class DataConfig(Component):
    """The images, and how they reach the networks."""

    size: Size = Field(
        description="[height, width] in pixels of all images, >= 32; scores are at the labels' own size."
    )
    crop: Size | None = Field(default=None, description="[height, width] in pixels of the random training crop, >= 32.")
    augment: tuple[Use, ...] = Field(
        default=(), description="Transforms of training images, in order, before the crop."
    )
    workers: Whole = Field(
        default=2, ge=0, le=256, description="Processes that load images; 0: none beside the main one."
    )

    @property
    def dataset(self) -> Use:
        """The dataset as a component."""
        return self._as_use()


class SupervisedConfig(Component):
    """The loss against the labels."""

    aux_weight: Number = Field(
        default=0.4, ge=0, description="Factor of each auxiliary head's loss in the supervised loss."
    )

    @property
    def loss(self) -> Use:
        """The loss as a component."""
        return self._as_use()


class GroupConfig(Section):
    """The parameters that a pattern names; the first pattern that fits a parameter has it."""

    match: Text = Field(
        description="Pattern of parameter names, `*` for anything: `network.backbone.*`, `adapters.*`, `losses.*`."
    )
    lr: Number = Field(default=1.0, gt=0, description="Factor of the learning rate.")
    weight_decay: Number | None = Field(
        default=None, ge=0, description="Weight decay in place of the optimizer's own; null: the optimizer's own."
    )


class OptimizerConfig(Component):
    """The optimizer."""

    groups: tuple[GroupConfig, ...] = Field(
        default=(), description="Parameters with a learning rate or weight decay of their own; the first that fits."
    )
    decay_norms_and_biases: Flag = Field(
        default=True, description="Whether parameters of one dimension (norms, biases) have weight decay too."
    )

    @property
    def factory(self) -> Use:
        """The optimizer as a component; it is built with `params`."""
        return self._as_use()


class AtConfig(Section):
    """Where a term reads each network: `logits`, `aux.<name>`, a tap, or a module path; or lists of equal length."""

    student: Address = Field(description="Where in the student.")
    teacher: Address = Field(description="Where in the teacher.")

    @field_validator("teacher")
    @classmethod
    def _equal_length(cls, teacher: Any, info: ValidationInfo) -> Any:
        if "student" in info.data:
            here, there = info.data["student"], teacher
            lengths = [len(a) if isinstance(a, tuple) else "one name" for a in (here, there)]
            if lengths[0] != lengths[1]:
                raise ValueError(f"must be as many taps as the student's: {lengths[0]} and {lengths[1]}")
        return teacher


class TermConfig(Section):
    """One distillation term."""

    loss: Use = Field(description="The loss, called with the student's map, the teacher's and the labels.")
    at: AtConfig | None = Field(default=None, description="Where it reads; without it, the logits.")
    adapter: Use | None = Field(
        default=None, description="Brings the student's channels to the teacher's; trained with it."
    )
    weight: Annotated[float | Use, BeforeValidator(_factor)] = Field(
        default=1.0, description="Factor in the total loss: a number >= 0, or a schedule of the step."
    )
    resize: Literal["student", "teacher"] = Field(
        default="student", description="Whose map is resized to the size of the other's."
    )
    pixels: Literal["valid", "all", "unlabelled"] = Field(
        default="valid",
        description="`all` and `unlabelled`: the teacher's argmax labels what has an image but no label.",
    )


class CacheConfig(Section):
    """Kept outputs of the teacher."""

    views: Whole = Field(
        ge=1, description="Augmented views of each image, seen in turn; without a teacher only this counts."
    )
    dtype: Literal["float16", "bfloat16", "float32"] = Field(
        default="float16", description="How the teacher's maps are kept; with `float32` no bit changes."
    )
    folder: Text = Field(
        default="teacher-cache", description="Where, relative to the current folder; no part of a run's id."
    )


class PhaseConfig(Section):
    """A part of the run, by steps."""

    until: Amount | None = Field(
        default=None, description="The step, or share of all, where it ends; the last phase has none."
    )
    freeze: Names = Field(default=(), description="Modules of the student's network that rest meanwhile.")
    lr: Number | None = Field(
        default=None, gt=0, description="Learning rate in place of `optimizer.args.lr`; the schedule goes on."
    )


class TrainConfig(Section):
    """How long, how much at a time, and how."""

    epochs: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="Passes over the data; exactly one of `epochs` and `steps`."
    )
    steps: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="Optimizer updates; exactly one of `epochs` and `steps`.", validate_default=True
    )
    batch_size: Whole = Field(
        ge=1, description="Images a step (one optimizer update), over all processes and micro-batches."
    )
    accumulate: Whole = Field(default=1, ge=1, description="Micro-batches a step; divides batch_size.")
    seeds: Annotated[tuple[Annotated[Whole, Field(ge=0, lt=2**32)], ...], AfterValidator(_distinct)] = Field(
        default=(0,), min_length=1, description="Seeds of weights and data; each is a run of its own."
    )
    clip_norm: Number | None = Field(
        default=None, gt=0, description="Largest norm of a step's gradient; null: not clipped."
    )
    on_nan: Literal["stop", "skip", "restore"] = Field(
        default="stop",
        description="A loss or gradient that is not finite: stop, skip the step, or go back to the last checkpoint.",
    )
    nan_limit: Whole = Field(
        default=10, ge=0, description="Steps that may be skipped or restored; one more stops the run."
    )
    sync_batchnorm: Flag = Field(
        default=False, description="Whether BatchNorm sees the images of all processes; on GPUs, under torchrun."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="`auto`: bf16 where the machine is fast at it."
    )
    memory_format: Literal["auto", "channels_last", "contiguous"] = Field(
        default="auto", description="How images lie in memory; `auto`: what the machine is faster with."
    )
    ema: Decay | None = Field(
        default=None,
        description="Decay of a moving average of the student's network, whose weights are the result; null: none.",
    )
    compile: Literal["off", "student", "all"] = Field(
        default="off", description="Which networks run through `torch.compile` in training; a failure is a warning."
    )
    fold_batchnorm: Flag = Field(
        default=False, description="Whether a copy of the teacher, its BatchNorm folded into convolutions, teaches."
    )
    evaluate_every: Amount = Field(
        default="20%", description="Steps, or a share of all, between evaluations; 0: only at the end."
    )
    save_every: Amount = Field(
        default="10%", description="Steps, or a share of all, between checkpoints; 0: only at the end."
    )
    patience: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="Evaluations in a row without a better mIoU that end the run; null: none do."
    )
    select: Literal["last", "best"] = Field(
        default="last", description="Whose weights are the result: the last step's, or the best's."
    )
    reestimate_batchnorm: Whole = Field(
        default=0, ge=0, description="Batches to estimate BatchNorm's statistics on before the last evaluation; 0: off."
    )

    @field_validator("steps")
    @classmethod
    def _one_length(cls, steps: int | None, info: ValidationInfo) -> int | None:
        if "epochs" in info.data and (steps is None) == (info.data["epochs"] is None):
            got = "none" if steps is None else "both; remove one, here or by train.epochs=null or train.steps=null"
            raise ValueError(f"give either epochs or steps, got {got}")
        return steps

    @field_validator("accumulate")
    @classmethod
    def _equal_parts(cls, accumulate: int, info: ValidationInfo) -> int:
        size = info.data.get("batch_size")
        if size is not None and size % accumulate:
            raise ValueError(
                f"batch_size {size} is not divisible by accumulate {accumulate}; "
                f"the nearest that are: {multiples_near(size, accumulate)}"
            )
        return accumulate


class EvaluateConfig(Section):
    """How images are scored, in training and in the result."""

    size: Size | None = Field(
        default=None, description="[height, width] in pixels of scored images, >= 32; null: `data.size`."
    )
    window: Size | None = Field(
        default=None, description="[height, width] of a window that slides over the image; null: the image at once."
    )
    scales: Annotated[tuple[Annotated[Number, Field(gt=0, le=4)], ...], BeforeValidator(_scales)] = Field(
        default=(1.0,), description="Factors of the size; the probabilities of all passes are averaged."
    )
    flip: Flag = Field(default=False, description="Whether the mirror image is a pass too.")
    agreement: Flag = Field(
        default=True, description="Whether evaluations in training say on how much student and teacher agree."
    )
    metrics: Annotated[tuple[Use, ...], AfterValidator(_distinct_metrics)] = Field(
        default=(), description="Further metrics, beside those of the confusion matrix: `kd.metrics.BoundaryIoU`."
    )


class LogConfig(Section):
    """What is shown and logged; no part of a run's id."""

    every: Whole = Field(default=10, ge=1, description="Steps between two lines of progress.")
    panels: Whole = Field(default=4, ge=0, le=64, description="Images shown with labels and predictions; 0: none.")
    tensorboard: Flag = Field(default=True, description="Whether TensorBoard events are written.")
    gradients: Whole = Field(
        default=0, ge=0, description="Steps between two looks at each term's gradient, as in `kd calibrate`; 0: none."
    )


class TrackConfig(Section):
    """Weights & Biases: the run's curves there too; no part of a run's id."""

    project: Text = Field(description="Its project; made at the first run.")
    entity: Text | None = Field(default=None, description="The team or user that it belongs to; null: your own.")


def held(value: Any) -> Iterator[tuple[str | int, Any]]:
    """What a section, mapping or list holds, each with its key or index; a plain value holds nothing."""
    if isinstance(value, Section):
        yield from value
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)


def components(value: Any) -> Iterator[Use]:
    """Every component in a recipe, a section or arguments, at any depth; one that is a component comes first."""
    if isinstance(value, Component):
        yield value._as_use()
    elif isinstance(value, TeacherConfig) and value.network is not None:
        yield value.network
    for _, item in held(value):
        yield from components(item)
