"""The sections of a recipe as pydantic models: the meaning, unit, range and default of each key."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from kd.recipe.identity import Named, Scope
from kd.recipe.section import Arguments, Component, Section, Use, held
from kd.recipe.values import (
    Address,
    Amount,
    ComponentPath,
    Decay,
    Flag,
    MicroBatches,
    Names,
    Number,
    Scales,
    Seeds,
    Size,
    Text,
    Whole,
    Workers,
    not_a,
    term_name,
)
from kd.units import multiples_near

__all__ = [
    "AtConfig",
    "CacheConfig",
    "DataConfig",
    "EvaluateConfig",
    "Flag",
    "GroupConfig",
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
    "UnlabelledConfig",
    "Use",
    "WeightsConfig",
    "components",
    "held",
    "term_name",
]


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
        default="logits", description="What the network returns; of `probabilities` the logarithm is taken."
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


SPLIT_ARGS = ("val", "test", "folds", "fold", "group")  # of a dataset: they divide its images into splits
IMAGE_ARGS = {"images": "images", "image_suffix": "", "lists": None}  # which images it has, with the usual defaults


class UnlabelledConfig(Section):
    """Images without labels that join every batch, for the terms with `pixels: all` or `unlabelled`."""

    images: Annotated[Text | None, Scope.MACHINE] = Field(
        default=None,
        description="The folder of the images, relative to the current folder; images of train, val and test in it "
        "are left out.",
    )
    args: Arguments = Field(
        default_factory=dict,
        description="In place of `images`: arguments of the dataset that differ; its training images with them, other "
        "than those of train, val and test.",
        validate_default=True,
    )
    ratio: Number = Field(
        default=1.0, gt=0, description="Images without labels per labelled image, in every step and micro-batch."
    )
    cutmix: Number = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of these images, drawn anew in each step, of which half is a rectangle of another one; the "
        "teacher sees whole images, and its maps are cut alike.",
    )

    @field_validator("args")
    @classmethod
    def _one_source(cls, args: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "images" in info.data and (info.data["images"] is None) != bool(args):
            raise ValueError("give images, a folder, or args, the dataset's arguments that differ, and not both")
        return args


class DataConfig(Component):
    """The images, and how they reach the networks."""

    machine_args: ClassVar[frozenset[str]] = frozenset({"root", "download"})  # the dataset's place on this machine

    size: Size = Field(
        description="[height, width] in pixels of all images, >= 32; scores are computed at the labels' own size."
    )
    crop: Size | None = Field(
        default=None, description="[height, width] in pixels of the random training crop, >= 32; null: `size`."
    )
    max_class_share: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="A crop is drawn again, at most 10 times, while one class has more than this share of its labelled "
        "pixels; null: never.",
    )
    padding: Literal["end", "random"] = Field(
        default="end",
        description="Where an image smaller than the crop is padded: `end`, at the bottom and right; `random`, on all "
        "sides.",
    )
    augment: tuple[Use, ...] = Field(
        default=(),
        description="Transforms of training images. Geometric ones come first, composed with `size` and `crop` into "
        "one resampling; the others follow, in order.",
    )
    unlabelled: UnlabelledConfig | None = Field(
        default=None, description="Images without labels that join every batch; the baseline does without them."
    )
    decoded: Annotated[Literal["auto", "off"], Scope.MACHINE] = Field(
        default="auto",
        description="`auto`: training images of kd's datasets are read once and held in memory, if they fit in "
        "half of what is free.",
    )
    workers: Annotated[Workers, Scope.MACHINE] = Field(
        default="auto",
        description="Processes that load images; 0: the main process loads them; `auto`: in training one less than the "
        "cores, at most 8 for a GPU and 2 for a CPU.",
    )

    def divided_as(self, other: "DataConfig") -> "DataConfig":
        """This section with the split of another one, if both name the same images and the other divides them."""
        named = [[data.args.get(key, usual) for key, usual in IMAGE_ARGS.items()] for data in (self, other)]
        split = {key: other.args[key] for key in SPLIT_ARGS if key in other.args}
        if self.use != other.use or named[0] != named[1] or not split:
            return self
        kept = {key: value for key, value in self.args.items() if key not in SPLIT_ARGS}
        return self.model_copy(update={"args": kept | split})

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
    """The parameters that match a pattern; a parameter belongs to the first group that matches it."""

    match: Text = Field(
        description="Pattern of parameter names, `*` for any text: `network.backbone.*`, `adapters.*`, `losses.*`."
    )
    lr: Number = Field(default=1.0, gt=0, description="Factor of the learning rate.")
    weight_decay: Number | None = Field(
        default=None, ge=0, description="Weight decay of the group; null: the optimizer's."
    )


class OptimizerConfig(Component):
    """The optimizer."""

    groups: tuple[GroupConfig, ...] = Field(
        default=(), description="Groups of parameters with their own learning rate or weight decay."
    )
    decay_norms_and_biases: Flag = Field(
        default=True, description="Whether weight decay includes one-dimensional parameters (norms, biases)."
    )

    @property
    def factory(self) -> Use:
        """The optimizer as a component; it is built with `params`."""
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


class CacheConfig(Section):
    """Cached outputs of the teacher."""

    views: Whole = Field(
        ge=1,
        description="Augmented views of each image, used in turn; without a teacher, the other keys have no effect.",
    )
    dtype: Literal["float16", "bfloat16", "float32"] = Field(
        default="float16", description="Number format of the cached maps; `float32` is lossless."
    )
    folder: Annotated[Text, Scope.MACHINE] = Field(
        default="teacher-cache", description="The cache's folder, relative to the current folder; not part of the id."
    )


class PhaseConfig(Section):
    """A part of the run, by steps."""

    until: Amount | None = Field(
        default=None,
        description="The step, or share of all steps, at which the phase ends; null in the last phase only.",
    )
    freeze: Names = Field(default=(), description="Modules of the student's network that are frozen in this phase.")
    lr: Number | None = Field(
        default=None, gt=0, description="Learning rate in place of `optimizer.args.lr`; the schedule continues."
    )


class TrainConfig(Section):
    """How long and how the student trains."""

    epochs: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="Passes over the data; exactly one of `epochs` and `steps`."
    )
    steps: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="Optimizer updates; exactly one of `epochs` and `steps`.", validate_default=True
    )
    batch_size: Whole = Field(
        ge=1, le=65_536, description="Images per step (one optimizer update), over all processes and micro-batches."
    )
    accumulate: MicroBatches = Field(
        default=1,
        description="Micro-batches per step; divides batch_size. `auto`: the fewest that fit into memory, found when "
        "the run starts.",
    )
    seeds: Annotated[Seeds, Scope.RUN] = Field(default=(0,), description="Seeds of weights and data, one run each.")
    scales: Scales = Field(
        default=(1.0,), description="Factors of the size of training images; each step draws one of them."
    )
    clip_norm: Number | None = Field(
        default=None, gt=0, description="Maximum norm of a step's gradient; null: no clipping."
    )
    on_nan: Literal["stop", "skip", "restore"] = Field(
        default="stop",
        description="On a loss or gradient that is not finite: stop, skip the step, or restore the last checkpoint.",
    )
    nan_limit: Whole = Field(
        default=10, ge=0, description="Maximum number of skipped or restored steps; one more stops the run."
    )
    sync_batchnorm: Flag = Field(
        default=False, description="Whether BatchNorm uses the images of all processes; on GPUs, with torchrun."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="`auto`: bf16 where the machine computes it fast, else fp32."
    )
    memory_format: Literal["auto", "channels_last", "contiguous"] = Field(
        default="auto", description="Layout of images in memory; `auto`: the faster one on this machine."
    )
    ema: Decay | None = Field(
        default=None,
        description="Decay of a moving average of the student's network, whose weights are the result; null: none.",
    )
    compile: Annotated[Literal["off", "student", "all", "auto"], Scope.MACHINE] = Field(
        default="off",
        description="Networks that run through `torch.compile` in training; a failure is a warning. `auto`: what "
        "shortens the run, measured when it starts.",
    )
    graph: Annotated[Literal["auto", "off"], Scope.MACHINE] = Field(
        default="auto",
        description="`auto`: on a GPU, a whole step is captured and replayed where every component allows it; `off`: "
        "never.",
    )
    fold_batchnorm: Flag = Field(
        default=False, description="Whether the teacher runs as a copy with BatchNorm folded into its convolutions."
    )
    evaluate_every: Amount = Field(
        default="20%", description="Steps, or a share of all steps, between evaluations; 0: only at the end."
    )
    save_every: Amount = Field(
        default="10%", description="Steps, or a share of all steps, between checkpoints; 0: only at the end."
    )
    checkpoints: Literal["unfinished", "all"] = Field(
        default="unfinished", description="Runs that keep their checkpoints: `unfinished` ones only, or `all`."
    )
    patience: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="Evaluations without a better mIoU after which the run ends; null: never."
    )
    select: Literal["last", "best"] = Field(
        default="last", description="Whose weights are the result: those of the last step or the best evaluation."
    )
    reestimate_batchnorm: Whole = Field(
        default=0,
        ge=0,
        description="Batches for re-estimating BatchNorm's statistics before the last evaluation; 0: off.",
    )

    @field_validator("steps")
    @classmethod
    def _one_length(cls, steps: int | None, info: ValidationInfo) -> int | None:
        if "epochs" in info.data and (steps is None) == (info.data["epochs"] is None):
            got = "none" if steps is None else "both; remove one, or set train.epochs=null or train.steps=null"
            raise ValueError(f"give either epochs or steps, got {got}")
        return steps

    @field_validator("accumulate")
    @classmethod
    def _equal_parts(cls, accumulate: int | str, info: ValidationInfo) -> int | str:
        size = info.data.get("batch_size")
        if size is not None and isinstance(accumulate, int) and size % accumulate:
            raise ValueError(
                f"batch_size {size} is not divisible by accumulate {accumulate}; "
                f"the nearest multiples: {multiples_near(size, accumulate)}"
            )
        return accumulate


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


def components(value: Any) -> Iterator[Use]:
    """Every component in a recipe, a section or arguments, at any depth, each before those in its arguments."""
    if isinstance(value, Component):
        yield value._as_use()
    elif isinstance(value, TeacherConfig) and value.network is not None:
        yield value.network
    for _, item in held(value):
        yield from components(item)
