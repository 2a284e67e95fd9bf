"""How a recipe trains: `optimizer`, `cache`, `train` and its phases."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from kd.recipe.identity import Scope
from kd.recipe.section import Component, Section, Use
from kd.recipe.values import (
    Amount,
    Decay,
    Flag,
    MicroBatches,
    Names,
    Number,
    Scales,
    Seeds,
    Text,
    Whole,
)
from kd.units import multiples_near


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
    compile: Annotated[Literal["off", "teacher", "student", "all", "auto"], Scope.MACHINE] = Field(
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
