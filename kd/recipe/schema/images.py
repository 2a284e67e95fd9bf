"""The images of a recipe: `data`, with and without labels."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from kd.recipe.identity import Scope
from kd.recipe.section import Arguments, Component, Section, Use
from kd.recipe.values import (
    Number,
    Size,
    Text,
    Workers,
)

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
