"""The endless stream of a run's training images, as this process reads it."""

from collections.abc import Callable, Iterator

from kd import distributed
from kd.components import Maker
from kd.console import Say, silent
from kd.data.images.kept import keep
from kd.data.loader import training_batches
from kd.data.splits.split import Split
from kd.data.transforms.crop import Crop
from kd.machine import loader_workers
from kd.parts.assemble import Parts
from kd.recipe import Recipe
from kd.types import Batch, SegmentationDataset


def stream(
    parts: Parts,
    *,
    seed: int,
    start: int = 0,
    steps: int | None = None,
    alone: bool = False,
    waiting: Callable[[], None] = lambda: None,
    say: Say = silent,
) -> Iterator[Batch]:
    """The run's micro-batches from step `start` on: this rank's, or those of all ranks if `alone`."""
    recipe = parts.recipe
    world = 1 if alone else distributed.world()
    split = training_split(
        recipe,
        parts.maker,
        parts.training,
        seed=seed,
        sums=recipe.cache is not None and parts.teacher is not None,
        hold=_read_again(parts, start, steps),
        say=say,
        teacher_size=parts.teaching.sight.size_of(recipe.data.crop or recipe.data.size) if parts.teaching else None,
    )
    return training_batches(
        split,
        steps=parts.steps if steps is None else steps,
        start=start,
        batch_size=recipe.train.batch_size,
        labelled=len(parts.train),
        unlabelled_size=recipe.unlabelled_size,
        views=recipe.cache.views if recipe.cache else None,
        accumulate=recipe.accumulate * (distributed.world() // world),
        seed=seed,
        rank=0 if alone else distributed.rank(),
        world=world,
        workers=loader_workers(recipe.data.workers, parts.precision.device),
        pin_memory=parts.precision.device.type == "cuda",  # a copy from there to the GPU waits for nothing
        waiting=waiting,
    )


def training_split(
    recipe: Recipe,
    maker: Maker,
    dataset: SegmentationDataset,
    *,
    seed: int,
    sums: bool = False,
    hold: bool = False,
    say: Say = silent,
    teacher_size: tuple[int, int] | None = None,
) -> Split:
    """A dataset as a recipe trains on it.

    Args:
        recipe: with the sizes and transforms.
        maker: builds the transforms.
        dataset: the images.
        seed: selects the stream of augmentations.
        sums: add each image's sum to its key, for a teacher's cache.
        hold: hold decoded images in memory, if the recipe allows it and they fit.
        say: takes the line for the user on what is held.
        teacher_size: (H, W) at which a teacher sees the images.
    """
    data = recipe.data
    return Split(
        dataset,
        data.size,
        crop=Crop(data.crop or data.size, data.max_class_share, data.padding),
        augment=[maker.build(use) for use in data.augment],
        seed=seed,
        sums=sums,
        kept=keep(dataset, say) if hold and data.decoded == "auto" else None,
        teacher_size=teacher_size,
    )


def _read_again(parts: Parts, start: int, steps: int | None) -> bool:
    """Whether the stream reads images more than once."""
    images = ((parts.steps if steps is None else steps) - start) * parts.recipe.images_per_step
    return images > len(parts.training)


def steps_to_fill(recipe: Recipe, labelled: int, unlabelled: int) -> int:
    """Steps after which every view of every image is in the teacher cache, with so many images; 0 without a cache."""
    views = recipe.cache.views if recipe.cache else 0
    streams = [(labelled, recipe.train.batch_size), (unlabelled, max(recipe.unlabelled_size, 1))]
    return max(-(-views * images // size) for images, size in streams)


def in_this_process(recipe: Recipe) -> Recipe:
    """The recipe without data workers: for commands that read a few batches."""
    return recipe.changed(data=recipe.data.model_copy(update={"workers": 0}))
